"""Device memory: who has which bytes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceMemoryError
from ..planning.memory_map import align
from ..spec import PAGE_BYTES
from .fair_lock import Turns

__all__ = ["DeviceMemory"]

Range = tuple[int, int]


class DeviceMemory:
    """Gives out the memory of a device.

    From its start, memory holds the ring and programs. Areas that were reserved, the page stores of caches and the arrays of
    calls that were submitted, are taken from the end. The arrays of the call under way are where there is room for them.

    Parameters
    ----------
    data : array of uint8
        The memory itself.
    first_free
        Address of the first byte behind the ring.

    Members
    -------
    lock
        Held while anything here is read and changed; methods that do not take it themselves need it.
    free
        Address behind the programs.
    call
        The bytes that the call under way has, also when nobody waits for it any more; None if there is none.
    """

    def __init__(self, data: NDArray[np.uint8], first_free: int) -> None:
        self.data = data
        self.lock = Turns()
        self.free = first_free
        self.call: Range | None = None
        self._reserved: dict[int, int] = {}

    @property
    def reserved_bytes(self) -> int:
        """Bytes of all areas that are reserved."""
        return sum(self._reserved.values())

    def gaps(self) -> list[Range]:
        """List the ranges behind the programs that nobody has, by address."""
        taken = [(address, address + size) for address, size in self._reserved.items()]
        if self.call is not None:
            taken.append(self.call)
        found, start = [], self.free
        for first, last in [*sorted(taken), (self.data.size, self.data.size)]:
            if first > start:
                found.append((start, first))
            start = max(start, last)
        return found

    def reserve(self, what: str, size: int) -> int:
        """Reserve ``size`` bytes, rounded up to whole pages, until they are released; returns their address.

        Raises
        ------
        DeviceMemoryError
            If there is no room; ``what`` is the name in its message.
        """
        with self.lock:
            return self.reserve_locked(what, size)

    def reserve_locked(self, what: str, size: int) -> int:
        """Do the same for who has the lock: the highest gap that is large enough."""
        size = align(size, PAGE_BYTES)
        gaps = [(start, end // PAGE_BYTES * PAGE_BYTES) for start, end in self.gaps()]
        for start, end in reversed(gaps):
            if end - start >= size:
                self._reserved[end - size] = size
                return end - size
        most = max((end - start for start, end in gaps), default=0)
        raise DeviceMemoryError(
            f"the {what} need {size} bytes, but the device memory has {max(0, most)} bytes left in one piece"
        )

    def release(self, address: int) -> None:
        """Give back what was reserved at an address."""
        with self.lock:
            self.release_locked(address)

    def release_locked(self, address: int) -> None:
        """Do the same for who has the lock."""
        del self._reserved[address]

    def check_room(self, what: str, size: int, end: int, limit: int) -> None:
        """Check that ``size`` bytes of the call under way, which end at ``end``, meet nothing that is reserved at ``limit``.

        Raises
        ------
        DeviceMemoryError
            If they do.
        """
        if end > limit:
            reserved = f", {self.reserved_bytes} of them reserved" if self._reserved else ""
            raise DeviceMemoryError(
                f"the {what} need {size} bytes and end at {end}, but the device memory has {self.data.size} bytes{reserved}"
            )

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes to an address."""
        self.data[address : address + len(data)] = np.frombuffer(data, np.uint8)

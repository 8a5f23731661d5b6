"""Device memory: who has which bytes."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceMemoryError
from ..planning.memory_map import align
from ..spec import PAGE_BYTES

__all__ = ["DeviceMemory"]


class DeviceMemory:
    """Gives out the memory of a device.

    From its start, memory holds the ring, programs, and the arrays of the call under way; from its end, areas that were
    reserved: page stores of caches, and the arrays of calls that were submitted.

    Parameters
    ----------
    data : array of uint8
        The memory itself.
    first_free
        Address of the first byte behind the ring.

    Members
    -------
    lock
        Held while anything here is read and changed; re-entrant.
    free
        Address behind the programs.
    call_end
        Address behind the arrays of the call under way, also when nobody waits for it any more; 0 if there is none.
    """

    def __init__(self, data: NDArray[np.uint8], first_free: int) -> None:
        self.data = data
        self.lock = threading.RLock()
        self.free = first_free
        self.call_end = 0
        self._reserved: dict[int, int] = {}

    @property
    def limit(self) -> int:
        """Address of the first byte that was reserved."""
        return min(self._reserved, default=self.data.size)

    def reserve(self, what: str, size: int) -> int:
        """Reserve ``size`` bytes, rounded up to whole pages, until they are released; returns their address.

        Raises
        ------
        DeviceMemoryError
            If there is no room; ``what`` is the name in its message.
        """
        size = align(size, PAGE_BYTES)
        with self.lock:
            end = self.data.size // PAGE_BYTES * PAGE_BYTES
            for address in sorted(self._reserved, reverse=True):
                if end - (address + self._reserved[address]) >= size:
                    break
                end = address
            used = max(self.free, self.call_end)
            if end - size < used:
                raise DeviceMemoryError(
                    f"the {what} need {size} bytes, but the device memory has {max(0, end - used)} bytes left"
                )
            self._reserved[end - size] = size
            return end - size

    def release(self, address: int) -> None:
        """Give back what was reserved at an address."""
        with self.lock:
            del self._reserved[address]

    def check_room(self, what: str, size: int, end: int) -> None:
        """Check that ``size`` bytes of the call under way, which end at ``end``, meet nothing that was reserved.

        Raises
        ------
        DeviceMemoryError
            If they do.
        """
        if end > self.limit:
            reserved = f", {self.data.size - self.limit} of them reserved" if self._reserved else ""
            raise DeviceMemoryError(
                f"the {what} need {size} bytes and end at {end}, but the device memory has {self.data.size} bytes{reserved}"
            )

    def write(self, address: int, data: bytes) -> None:
        """Copy bytes to an address."""
        self.data[address : address + len(data)] = np.frombuffer(data, np.uint8)

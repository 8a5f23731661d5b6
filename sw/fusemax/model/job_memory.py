"""The model device's memory as a job sees it: rows at strides, bus errors, windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..spec import PAGE_BYTES, Cause, Config, Descriptor, ceil_div
from .timeline.bus import cut

__all__ = ["JobMemory", "Stop", "key_rows", "query_rows"]

Addresses = NDArray[np.uint64]


class Stop(Exception):
    """The machine stops with a cause and an address."""

    def __init__(self, cause: Cause, address: int) -> None:
        super().__init__(cause, address)
        self.cause = cause
        self.address = address


class JobMemory:
    """Memory behind a bus that answers an access outside it with an error.

    Members
    -------
    data
        Bytes by address.
    windows
        First and last byte that may be read, and written: by :attr:`Cause.READ` and :attr:`Cause.WRITE`.
    """

    def __init__(self, config: Config, size: int) -> None:
        self._config = config
        self.data = np.zeros(size, np.uint8)
        everything = (0, (1 << config.address_bits) - 1)
        self.windows: dict[Cause, tuple[int, int]] = {Cause.READ: everything, Cause.WRITE: everything}

    def read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Bytes from an address on."""
        return self.read_rows(np.array([address], np.uint64), size)[0]

    def read_rows(self, addresses: Addresses, size: int) -> NDArray[np.uint8]:
        """Rows of ``size`` bytes."""
        self._check(addresses, size, Cause.READ)
        return self.data[addresses[:, None] + np.arange(size, dtype=np.uint64)]

    def write_rows(self, addresses: Addresses, rows: NDArray[np.uint8]) -> None:
        """Rows are written up to the first one that cannot be."""
        size = rows.shape[1]
        wrong = self._wrong(addresses, size, Cause.WRITE)
        inside = int(np.argmax(wrong)) if wrong.any() else len(rows)
        self.data[addresses[:inside, None] + np.arange(size, dtype=np.uint64)] = rows[:inside]
        self._check(addresses, size, Cause.WRITE)

    def _wrong(self, addresses: Addresses, size: int, cause: Cause) -> NDArray[np.bool_]:
        first, last = self._word_window(cause)
        end = min(self.data.size, last + 1)
        return (addresses < first) | (addresses > np.uint64(max(0, end - size))) | (size > end)

    def _word_window(self, cause: Cause) -> tuple[int, int]:
        first, last = self.windows[cause]
        word = self._config.bus_bytes
        return first // word * word, last | word - 1

    def _check(self, addresses: Addresses, size: int, cause: Cause) -> None:
        """Stop at the first burst that leaves the window, or the first word outside the memory."""
        wrong = self._wrong(addresses, size, cause)
        if not wrong.any():
            return
        word = self._config.bus_bytes
        first, last = self._word_window(cause)
        address = int(addresses[np.argmax(wrong)])
        for beats in cut(self._config, address % PAGE_BYTES, ceil_div(size, word)):
            end = address + beats * word
            if not first <= address or end > last + 1:
                raise Stop(Cause.WINDOW, address)
            if end > self.data.size:
                raise Stop(cause, max(address, self.data.size // word * word))
            address = end


def key_rows(job: Descriptor, array: str, entry: int, head: int, keys: int) -> Addresses:
    """Addresses of keys or values, ``array`` ``k`` or ``v``."""
    return _first(job, array, entry, head) + np.arange(keys, dtype=np.uint64) * np.uint64(getattr(job, f"{array}_row_stride"))


def query_rows(job: Descriptor, array: str, entry: int, head: int, rows: int) -> Addresses:
    """Addresses of rows of ``array`` ``q``, ``m``, ``b`` or ``o``: heads that share keys follow each other at each position."""
    position, shared = np.divmod(np.arange(rows, dtype=np.uint64), np.uint64(job.share))
    return (
        _first(job, array, entry, head)
        + position * np.uint64(getattr(job, f"{array}_row_stride"))
        + shared * np.uint64(getattr(job, f"{array}_share_stride"))
    )


def _first(job: Descriptor, array: str, entry: int, head: int) -> np.uint64:
    return np.uint64(
        getattr(job, f"{array}_address")
        + entry * getattr(job, f"{array}_batch_stride")
        + head * getattr(job, f"{array}_head_stride")
    )

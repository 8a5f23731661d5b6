"""Pages of keys and values in device memory."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .device import Device

__all__ = ["PageStore", "Pages", "Stores"]

Range = tuple[int, int]
Bits = NDArray[np.uint16]


class PageStore:
    """Keys or values of all pages in device memory: rows of all heads of a key follow each other.

    Members
    -------
    rows
        bfloat16 bits, (keys, heads, elements).
    """

    def __init__(self, device: Device, address: int, row_bytes: int, keys: int, heads: int, elements: int) -> None:
        self._device = device
        self.address, self.row_bytes, self.heads, self.elements = address, row_bytes, heads, elements
        self._keys = keys

    @property
    def rows(self) -> Bits:
        row = self.row_bytes // 2
        words = self._device.driver.memory.data[self.address :][: self._keys * self.heads * self.row_bytes].view("<u2")
        return words.reshape(self._keys, self.heads, row)[..., : self.elements]


class Stores:
    """The stores of a cache for keys and values, in one area of device memory.

    Parameters
    ----------
    keys
        That there is room for.
    elements
        Of a key's row and of a value's.
    values_in_keys
        The values are the first elements of the keys, and have no rows of their own.

    Raises
    ------
    DeviceMemoryError
        If there is no room.
    """

    def __init__(
        self, device: Device, keys: int, heads: int, elements: tuple[int, int], *, values_in_keys: bool = False
    ) -> None:
        rows = [device.config.beats(each) * device.config.bus_bytes for each in elements]
        sizes = [keys * heads * row for row in rows]
        self.address = device.driver.reserve("pages of the cache", sizes[0] if values_in_keys else sum(sizes))
        self.k = PageStore(device, self.address, rows[0], keys, heads, elements[0])
        if values_in_keys:
            self.v = PageStore(device, self.address, rows[0], keys, heads, elements[1])
        else:
            self.v = PageStore(device, self.address + sizes[0], rows[1], keys, heads, elements[1])

    def copy_page(self, source: int, target: int, page_size: int) -> None:
        """Copy all keys of a page."""
        for store in (self.k, self.v):
            rows = store.rows
            rows[target * page_size : (target + 1) * page_size] = rows[source * page_size : (source + 1) * page_size]


class Pages:
    """Keys or values of a call's batch entries (:class:`fusemax.planning.descriptors.Keys`)."""

    batch_stride = None

    def __init__(self, store: PageStore, runs: list[list[tuple[int, int]]]) -> None:
        self._store, self._runs = store, runs
        self.address = store.address
        self.head_stride = store.row_bytes
        self.row_stride = store.row_bytes * store.heads

    def place(self, entry: int, head: int, share: int, row: int) -> int:
        """Address of a row."""
        first, place = next(run for run in reversed(self._runs[entry]) if run[0] <= row)
        return self.address + (place + row - first) * self.row_stride + head * self.head_stride

    def runs(self, entry: int, keys: int) -> list[Range]:
        """Keys of a batch entry that lie one behind the other."""
        starts = [first for first, _ in self._runs[entry] if first < keys]
        return list(pairwise([*starts, keys]))

"""Page tables: which pages the keys of a growing sequence lie in."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceMemoryError
from ..spec import ceil_div

__all__ = ["PageTables"]


class PageTables:
    """Gives pages to sequences.

    A sequence grows by pages that are anywhere, so nothing ever moves. Pages that lie one behind the other are worked on in one
    job, so a sequence gets the page behind its last one if that is free.

    Parameters
    ----------
    pages, page_size
        Pages of all sequences together, and keys of each.
    """

    def __init__(self, pages: int, page_size: int) -> None:
        self.pages, self.page_size = pages, page_size
        self._lengths: dict[Hashable, int] = {}
        self._tables: dict[Hashable, list[int]] = {}
        self._free = np.ones(pages, np.bool_)

    @property
    def sequences(self) -> list[Hashable]:
        """Names of the sequences, oldest first."""
        return list(self._lengths)

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has."""
        return int(np.count_nonzero(self._free))

    def allocate(self, sequence: Hashable) -> None:
        """Begin a sequence of no keys.

        Raises
        ------
        ValueError
            If there is one of that name.
        """
        if sequence in self._lengths:
            raise ValueError(f"sequence must be a new one, but {sequence!r} is there")
        self._lengths[sequence] = 0
        self._tables[sequence] = []

    def free(self, sequence: Hashable) -> None:
        """Forget a sequence; its pages are free then."""
        self._free[self._tables.pop(sequence)] = True
        del self._lengths[sequence]

    def length(self, sequence: Hashable) -> int:
        """Count the keys of a sequence.

        Raises
        ------
        KeyError
            If there is no such sequence.
        """
        if sequence not in self._lengths:
            raise KeyError(f"there is no sequence {sequence!r}")
        return self._lengths[sequence]

    def table(self, sequence: Hashable) -> list[int]:
        """List the numbers of a sequence's pages in order."""
        return list(self._tables[sequence])

    def reserve(self, sequence: Hashable, keys: int) -> None:
        """Give a sequence the pages for so many keys; its length stays.

        Raises
        ------
        DeviceMemoryError
            If there are not enough free pages; nothing has changed then.
        """
        table = self._tables[sequence]
        missing = ceil_div(keys, self.page_size) - len(table)
        if missing > self.free_pages:
            raise DeviceMemoryError(
                f"the keys need {missing} more pages of {self.page_size}, but {self.free_pages} of {self.pages} pages are free"
            )
        for _ in range(missing):
            page = self._next_page(table)
            self._free[page] = False
            table.append(page)

    def grow(self, sequence: Hashable, keys: int) -> None:
        """Count ``keys`` more keys, which are in memory now."""
        self._lengths[sequence] += keys

    def _next_page(self, table: list[int]) -> int:
        """The page behind the last one; else one that leaves room behind it for growing."""
        if table and table[-1] + 1 < self.pages and self._free[table[-1] + 1]:
            return table[-1] + 1
        edges = np.flatnonzero(np.diff(self._free, prepend=False, append=False))
        starts, stops = edges[::2], edges[1::2]
        largest = int(np.argmax(stops - starts))
        start, stop = int(starts[largest]), int(stops[largest])
        grows = any(other and other[-1] + 1 == start for other in self._tables.values())
        return start + (stop - start) // 2 if grows else start

    def places(self, sequence: Hashable, start: int, stop: int) -> NDArray[np.int64]:
        """List the places of keys ``start`` to ``stop - 1``, counted in keys from the first page."""
        key = np.arange(start, stop)
        return np.array(self._tables[sequence], np.int64)[key // self.page_size] * self.page_size + key % self.page_size

    def runs(self, sequence: Hashable) -> list[tuple[int, int]]:
        """List the runs of pages one behind the other: first key, and its place."""
        table, size = self._tables[sequence], self.page_size
        return [
            (number * size, page * size) for number, page in enumerate(table) if number == 0 or table[number - 1] + 1 != page
        ]

"""Page tables: which pages the keys of a growing sequence lie in, and who shares them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceMemoryError
from ..spec import ceil_div

__all__ = ["PageTables", "Reading"]


@dataclass(frozen=True, eq=False)
class Reading:
    """A sequence as a call reads it: its page table and its length when the call began."""

    table: tuple[int, ...]
    length: int


class PageTables:
    """Gives pages to sequences.

    A sequence grows by pages that are anywhere, so nothing ever moves. Pages that lie one behind the other are worked on in one
    job, so a sequence gets the page behind its last one if that is free.

    Sequences that were forked share pages, as many as they have in common from the first one; who writes to a shared page gets
    a copy of it before. A page that a call reads is not free before the call has ended, and nothing that it reads is written.

    One thread at a time may call.

    Parameters
    ----------
    pages, page_size
        Pages of all sequences together, and keys of each.
    """

    def __init__(self, pages: int, page_size: int) -> None:
        self.pages, self.page_size = pages, page_size
        self._lengths: dict[Hashable, int] = {}
        self._tables: dict[Hashable, list[int]] = {}
        #: How many sequences have a page, and how many calls read it.
        self._owners = np.zeros(pages, np.int64)
        self._readers = np.zeros(pages, np.int64)
        self._readings: list[Reading] = []

    @property
    def sequences(self) -> list[Hashable]:
        """Names of the sequences, oldest first."""
        return list(self._lengths)

    @property
    def _free(self) -> NDArray[np.bool_]:
        return (self._owners == 0) & (self._readers == 0)

    @property
    def free_pages(self) -> int:
        """Pages that no sequence has and no call reads."""
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
        """Forget a sequence; pages that no other one has are free then."""
        self._owners[self._tables.pop(sequence)] -= 1
        del self._lengths[sequence]

    def fork(self, sequence: Hashable, new: Hashable) -> None:
        """Begin a sequence of the keys of another one, whose pages both have then.

        Raises
        ------
        ValueError
            If there is one of that name.
        """
        self.allocate(new)
        self._lengths[new] = self._lengths[sequence]
        self._tables[new] = self._tables[sequence][: ceil_div(self._lengths[sequence], self.page_size)]
        self._owners[self._tables[new]] += 1

    def truncate(self, sequence: Hashable, length: int) -> None:
        """Forget all but the first keys of a sequence, and give back pages that it needs no more."""
        table = self._tables[sequence]
        kept = ceil_div(length, self.page_size)
        self._owners[table[kept:]] -= 1
        del table[kept:]
        self._lengths[sequence] = length

    def read(self, sequence: Hashable) -> Reading:
        """Note that a call reads a sequence as it is now, until :meth:`end_read`."""
        length = self._lengths[sequence]
        reading = Reading(tuple(self._tables[sequence][: ceil_div(length, self.page_size)]), length)
        self._readings.append(reading)
        self._readers[list(reading.table)] += 1
        return reading

    def end_read(self, reading: Reading) -> None:
        """Note that the call has ended."""
        self._readings.remove(reading)
        self._readers[list(reading.table)] -= 1

    @property
    def is_read(self) -> bool:
        """Whether a call reads any sequence."""
        return bool(self._readings)

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

    def reserve(self, sequence: Hashable, keys: int) -> tuple[int, int] | None:
        """Give a sequence the pages for so many keys, which it may write; its length stays.

        Returns
        -------
        A page that it had, and another one that it has now in its place and to which the keys have to be copied; None if there
        is nothing to copy.

        Raises
        ------
        DeviceMemoryError
            If there are not enough free pages; nothing has changed then.
        """
        table, length = self._tables[sequence], self._lengths[sequence]
        last = length // self.page_size
        copied = keys > length and length % self.page_size > 0 and self._is_shared(last, table[last], length)
        missing = ceil_div(keys, self.page_size) - len(table)
        if missing + copied > self.free_pages:
            raise DeviceMemoryError(
                f"the keys need {missing + copied} more pages of {self.page_size}, but {self.free_pages} of {self.pages} pages "
                "are free"
            )
        pages: tuple[int, int] | None = None
        if copied:
            pages = table[last], self._next_page(table[:last])
            self._owners[pages[0]] -= 1
            self._owners[pages[1]] += 1
            table[last] = pages[1]
        for _ in range(missing):
            page = self._next_page(table)
            self._owners[page] += 1
            table.append(page)
        return pages

    def _is_shared(self, number: int, page: int, length: int) -> bool:
        """Whether the page of that number in a sequence of that length is another one's too, or a call reads further in it."""
        return self._owners[page] > 1 or any(
            reading.length > length and reading.table[number : number + 1] == (page,) for reading in self._readings
        )

    def grow(self, sequence: Hashable, keys: int) -> None:
        """Count ``keys`` more keys, which are in memory now."""
        self._lengths[sequence] += keys

    def _next_page(self, table: list[int]) -> int:
        """The page behind the last one; else one that leaves room behind it for growing."""
        free = self._free
        if table and table[-1] + 1 < self.pages and free[table[-1] + 1]:
            return table[-1] + 1
        edges = np.flatnonzero(np.diff(free, prepend=False, append=False))
        starts, stops = edges[::2], edges[1::2]
        largest = int(np.argmax(stops - starts))
        start, stop = int(starts[largest]), int(stops[largest])
        grows = any(other and other[-1] + 1 == start for other in self._tables.values())
        return start + (stop - start) // 2 if grows else start

    def places(self, sequence: Hashable, start: int, stop: int) -> NDArray[np.int64]:
        """List the places of keys ``start`` to ``stop - 1``, counted in keys from the first page."""
        key = np.arange(start, stop)
        return np.array(self._tables[sequence], np.int64)[key // self.page_size] * self.page_size + key % self.page_size

    def runs(self, reading: Reading) -> list[tuple[int, int]]:
        """List the runs of pages one behind the other: first key, and its place."""
        table, size = reading.table, self.page_size
        return [
            (number * size, page * size) for number, page in enumerate(table) if number == 0 or table[number - 1] + 1 != page
        ]

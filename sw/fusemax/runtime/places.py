"""Where the queries and keys of a call stand in their sequences, and which of them take no part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ..planning.masks import EntryMask, Mask
from ..planning.sequences import PackedSequence

__all__ = ["Places"]


@dataclass(frozen=True)
class _Region:
    """Rows of a sequence in a batch entry.

    Members
    -------
    entry
        Batch entry.
    queries, keys
        Slices of its rows; those of the keys begin with the first one that is seen.
    mask
        Which of these keys its queries see.
    place
        That of its first query, among these keys.
    """

    entry: int
    queries: slice
    keys: slice
    mask: EntryMask
    place: float

    @classmethod
    def of(cls, mask: Mask, entry: int, number: int, queries: tuple[int, int], keys: tuple[int, int]) -> Self:
        """Region of the sequence that is entry ``number`` of a mask."""
        found = mask.entry(number, keys[1] - keys[0])
        return cls(entry, slice(*queries), slice(keys[0] + found.first, keys[1]), found, float(mask.place(number)))


class Places:
    """Places of queries and keys.

    Parameters
    ----------
    shape
        Batch entries, queries and keys.
    mask
        Of every batch entry.
    sequences
        Packed sequences of a batch of one, with their own masks; none if not given.
    """

    def __init__(self, shape: tuple[int, int, int], mask: Mask, sequences: Sequence[PackedSequence] | None = None) -> None:
        self.batch, self.queries, self.keys = shape
        if sequences is None:
            rows = (0, self.queries), (0, self.keys)
            self._regions = [_Region.of(mask, entry, entry, *rows) for entry in range(self.batch)]
        else:
            self._regions = [_Region.of(each.mask, 0, 0, each.queries, each.keys) for each in sequences]

    def of_keys(self) -> NDArray[np.int64]:
        """Number every key of a sequence from the first one that is seen on; (batch, M)."""
        found = np.zeros((self.batch, self.keys), np.int64)
        for region in self._regions:
            found[region.entry, region.keys] = np.arange(region.keys.stop - region.keys.start)
        return found

    def of_queries(self) -> NDArray[np.float64]:
        """Give the place of every query among these numbers, (batch, P)."""
        found = np.zeros((self.batch, self.queries))
        for region in self._regions:
            found[region.entry, region.queries] = np.arange(region.queries.stop - region.queries.start) + region.place
        return found

    def unseen_keys(self) -> NDArray[np.bool_]:
        """Tell which keys no query sees, (batch, M)."""
        unseen = np.ones((self.batch, self.keys), np.bool_)
        for region in self._regions:
            mask, last = region.mask, region.queries.stop - region.queries.start - 1
            if last < 0:
                continue
            key = np.arange(region.keys.stop - region.keys.start)
            near = (key >= mask.lo) & (key < mask.hi + last)
            unseen[region.entry, region.keys] = ~((key < mask.keys) & ((key < mask.prefix) | near))
        return unseen

    def blind_queries(self) -> NDArray[np.bool_]:
        """Tell which queries see no key, (batch, P)."""
        blind = np.ones((self.batch, self.queries), np.bool_)
        for region in self._regions:
            mask = region.mask
            position = np.arange(region.queries.stop - region.queries.start)
            first, behind = np.maximum(mask.lo + position, 0), np.minimum(mask.hi + position, mask.keys)
            blind[region.entry, region.queries] = (first >= behind) & (not mask.prefix)
        return blind

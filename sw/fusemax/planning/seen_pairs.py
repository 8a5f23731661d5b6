"""Which pairs of queries and keys windows, lengths and prefixes let see each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .masks import Mask

__all__ = ["seen_pairs"]


def seen_pairs(mask: Mask, batch: int, positions: range, keys: int) -> NDArray[np.bool_]:
    """Tell for some queries of every batch entry which keys they see: (batch, queries, keys)."""
    found = np.empty((batch, len(positions), keys), np.bool_)
    position = np.arange(positions.start, positions.stop)[:, None]
    for number in range(batch):
        entry = mask.entry(number, keys)
        key = np.arange(keys) - entry.first
        near = (key >= entry.lo + position) & (key < entry.hi + position)
        found[number] = (near | (key < entry.prefix)) & (key >= 0) & (key < entry.keys)
    return found

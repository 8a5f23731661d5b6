"""Masks of a call as the kernels read them: intervals of keys for every query, in one pass over the keys or two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..planning.masks import Mask, pieces

__all__ = ["Intervals", "visible_intervals"]

#: First key that each query sees and the one behind the last: (batch, P) each.
Intervals = tuple[NDArray[np.int32], NDArray[np.int32]]


def visible_intervals(mask: Mask, batch: int, queries: int, keys: int) -> list[Intervals | None]:
    """Passes over the keys, in order; None is a pass in which all queries see all keys.

    A first pass over a prefix is there if some query sees the prefix apart from its window, as in a chain of jobs.
    """
    prefix = np.zeros((batch, queries), np.int32)
    lo, hi = np.zeros_like(prefix), np.zeros_like(prefix)
    for entry, entry_mask in enumerate(mask.entries(batch, keys)):
        for piece in pieces(entry_mask, queries):
            rows = slice(piece.start, piece.stop)
            positions = np.arange(piece.start, piece.stop)
            prefix[entry, rows] = piece.prefix
            lo[entry, rows] = np.clip(piece.lo + positions, 0, piece.keys)
            hi[entry, rows] = np.clip(piece.hi + positions, 0, piece.keys)
    passes: list[Intervals | None] = [(np.zeros_like(prefix), prefix)] if prefix.any() else []
    passes.append(None if (lo == 0).all() and (hi == keys).all() else (lo, hi))
    return passes

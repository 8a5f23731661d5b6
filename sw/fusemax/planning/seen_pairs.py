"""Which pairs of queries and keys windows, lengths and prefixes let see each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .masks import Mask

__all__ = ["part_of", "seen_pairs"]


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


def part_of(mask: Mask, entries: slice, position: int, keys: range) -> Mask:
    """The mask of some batch entries, of their queries from a position on, and of some of the keys."""

    def moved(numbers: tuple[int, ...], to: Callable[[int], int]) -> tuple[int, ...]:
        return tuple(to(number) for number in (numbers[entries] if len(numbers) > 1 else numbers))

    start, size = keys.start, len(keys)
    lengths = (keys.stop,) if mask.key_lengths is None else mask.key_lengths
    return replace(
        mask,
        offsets=moved(mask.offsets, lambda offset: offset + position - start),
        key_lengths=moved(lengths, lambda length: min(max(length - start, 0), size)),
        prefixes=moved(mask.prefixes, lambda prefix: max(prefix - start, 0)),
        key_starts=moved(mask.key_starts, lambda first: min(max(first - start, 0), size)),
    )

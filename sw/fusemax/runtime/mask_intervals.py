"""Boolean masks that say no more than an interval of keys per query: found again, since the machine has those for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["interval_options"]

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Intervals:
    """Position p of entry b sees keys ``max(start[b], lo + p) <= j < min(stop[b], hi + p)``; lo or hi None: no such bound."""

    start: Integers
    stop: Integers
    lo: int | None
    hi: int | None

    def mask(self, positions: int, keys: int) -> Bools:
        """The boolean mask, (batch, P, M)."""
        key, position = np.arange(keys), np.arange(positions)[:, None]
        seen = (self.start[:, None, None] <= key) & (key < self.stop[:, None, None])
        if self.lo is not None:
            seen = seen & (self.lo + position <= key)
        if self.hi is not None:
            seen = seen & (key < self.hi + position)
        return np.broadcast_to(seen, (len(self.start), positions, keys))


def interval_options(mask: Bools) -> dict[str, Any] | None:
    """Express a mask by the options of :func:`fusemax.attention` that cost no slot, and leave out what nobody sees.

    Parameters
    ----------
    mask
        (P, M), (heads, P, M) or (..., heads, P, M), True is seen; axes may be broadcast, of stride 0, or of length 1.

    Returns
    -------
    ``causal``, ``query_offset``, ``window``, ``key_start`` and ``key_lengths``, as far as they are needed; None if the mask is
    more than a window that moves with the query, between two ends for each batch entry. No query is in it then, or no key.
    """
    if not mask.size:
        return None
    *leading, positions, keys = mask.shape
    heads = _once(mask, -3) if leading else mask
    if heads is None:
        return None
    batch = leading[:-1]
    entries = heads.reshape(-1, positions, keys)
    if entries.shape[0] > 1 and (entries[1:] == entries[:1]).all():
        entries = entries[:1]
    found = _found(entries)
    if found is None or not np.array_equal(found.mask(positions, keys), entries):
        return None
    return _options(found, int(np.prod(batch)), keys)


def _once(mask: Bools, axis: int) -> Bools | None:
    """One element of an axis, if all of them are equal."""
    first = np.take(mask, [0], axis=axis) if mask.strides[axis] else mask[..., :1, :, :]
    if mask.shape[axis] > 1 and mask.strides[axis] and (mask != first).any():
        return None
    return first


def _found(mask: Bools) -> _Intervals | None:
    """Bounds that explain the edges of all rows, if any do."""
    _, positions, keys = mask.shape
    some = mask.any(axis=-1)
    first, behind = mask.argmax(axis=-1), keys - mask[..., ::-1].argmax(axis=-1)
    start = np.where(some, first, keys).min(axis=-1)
    stop = np.where(some, behind, 0).max(axis=-1)
    start = np.minimum(start, stop)
    place = np.broadcast_to(np.arange(positions), some.shape)
    edges: list[int | None] = []
    for edge, end, own in ((first, start, False), (behind, stop, True)):
        moved = np.unique((edge - place)[some & (edge != end[:, None])])
        if moved.size > 1:
            return None
        edges.append(int(moved[0]) if moved.size else _edge(some, place, end, behind=own))
    return _Intervals(start, stop, *edges)


def _edge(some: Bools, place: Integers, end: Integers, *, behind: bool) -> int | None:
    """A bound that never shows between the ends, but leaves rows empty: those in front of all others, or behind them."""
    numbers = np.where(some, place, place.shape[1] if behind else -1)
    last = numbers.min(axis=-1) if behind else numbers.max(axis=-1)
    entries = some.any(axis=-1)
    if behind:
        entries &= last > 0
        return int((end - last)[entries].max()) if entries.any() else None
    entries &= last < place.shape[1] - 1
    return int((end - last)[entries].min()) if entries.any() else None


def _options(found: _Intervals, batch: int, keys: int) -> dict[str, Any] | None:
    options: dict[str, Any] = {}
    if found.hi is not None:
        left = -1 if found.lo is None else found.hi - 1 - found.lo
        if found.lo is not None and left < 0:
            return None
        options |= {"causal": True, "query_offset": found.hi - 1} | ({"window": (left, -1)} if left >= 0 else {})
    elif found.lo is not None:
        place = max(found.lo, 0)
        options |= {"query_offset": place, "window": (place - found.lo, -1)}
    for name, numbers, usual in (("key_start", found.start, 0), ("key_lengths", found.stop, keys)):
        if (numbers != usual).any():
            options[name] = np.broadcast_to(numbers, batch).tolist()
    return options

"""Masks and biases of others as options of attention.

Boolean masks that say no more than an interval of keys per query are found again, since the machine has those for nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["interval_options", "pair_options"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class _Interval:
    """Position p sees keys ``max(start, lo + p) <= j < min(stop, hi + p)``; lo or hi None: no such bound."""

    start: int
    stop: int
    lo: int | None
    hi: int | None

    def mask(self, positions: int, keys: int) -> Bools:
        """The boolean mask, (P, M)."""
        key, position = np.arange(keys), np.arange(positions)[:, None]
        seen = (self.start <= key) & (key < self.stop)
        if self.lo is not None:
            seen = seen & (self.lo + position <= key)
        if self.hi is not None:
            seen = seen & (key < self.hi + position)
        return np.broadcast_to(seen, (positions, keys))


def pair_options(seen: Bools | None, bias: NDArray[Any] | None, shape: tuple[int, ...]) -> dict[str, Any]:
    """Express a mask and a bias by as cheap options of :func:`fusemax.attention` as there are.

    Parameters
    ----------
    seen
        True is seen; broadcasts to ``shape``.
    bias
        Floating-point numbers, added to the scores; broadcasts likewise. Minus infinity, and the lowest number of the type, is
        not seen.
    shape
        (..., heads, P, M).

    Returns
    -------
    Those of :func:`interval_options` or else ``mask``, and ``bias`` if it is more than a mask: bfloat16 or float32.
    """
    options: dict[str, Any] = {}
    if bias is not None:
        unseen = bias <= ml_dtypes.finfo(bias.dtype).min
        bias = np.where(unseen, bias.dtype.type(0), bias)
        seen = ~unseen if seen is None else seen & ~unseen
        if bias.any():
            options["bias"] = bias if bias.dtype == ml_dtypes.bfloat16 else bias.astype(np.float32)
    if seen is None or seen.all():
        return options
    whole = np.broadcast_to(seen.reshape((1,) * (len(shape) - seen.ndim) + seen.shape), shape)
    found = interval_options(whole)
    return options | ({"mask": seen} if found is None else found)


def interval_options(mask: Bools) -> dict[str, Any] | None:
    """Express a mask by the options of :func:`fusemax.attention` that cost no slot, and leave out what nobody sees.

    Parameters
    ----------
    mask
        (P, M), (heads, P, M) or (..., heads, P, M), True is seen; axes may be broadcast, of stride 0, or of length 1.

    Returns
    -------
    ``causal``, ``query_offset``, ``window``, ``key_start`` and ``key_lengths``, as far as they are needed; None if the mask is
    more than a window that moves with the query, between two ends for each batch entry, or empty.
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
    found = [_found(entry) for entry in entries]
    width = _width([each for each in found if each is not None], positions + keys)
    with_width = [None if each is None else _bounded(each, width) for each in found]
    if any(
        each is None or (each.mask(positions, keys) != entry).any() for each, entry in zip(with_width, entries, strict=True)
    ):
        return None
    return _options([each for each in with_width if each is not None], width, int(np.prod(batch)), keys)


def _once(mask: Bools, axis: int) -> Bools | None:
    """One element of an axis, if all of them are equal."""
    first = np.take(mask, [0], axis=axis) if mask.strides[axis] else mask[..., :1, :, :]
    if mask.shape[axis] > 1 and mask.strides[axis] and (mask != first).any():
        return None
    return first


def _found(mask: Bools) -> _Interval | None:
    """Bounds that explain the edges of all rows, if any do."""
    positions, keys = mask.shape
    rows = np.flatnonzero(mask.any(axis=-1))
    if not rows.size:
        return _Interval(0, 0, None, None)
    first, behind = mask[rows].argmax(axis=-1), keys - mask[rows, ::-1].argmax(axis=-1)
    start, stop = int(first.min()), int(behind.max())
    lows, highs = (np.unique((edge - rows)[edge != end]) for edge, end in ((first, start), (behind, stop)))
    if lows.size > 1 or highs.size > 1:
        return None
    lo, hi = (int(edges[0]) if edges.size else None for edges in (lows, highs))
    # An end that the moving bound explains is none: tiles are counted from the first key, which must not depend on a chunk.
    if lo is not None and start == lo + rows[0]:
        start = 0
    if hi is not None and stop == hi + rows[-1]:
        stop = keys
    # A bound that never shows between the ends may leave rows empty: those behind all others, or in front of them.
    if lo is None and rows[-1] < positions - 1:
        lo = start - int(rows[-1])
    if hi is None and rows[0] > 0:
        hi = stop - int(rows[0])
    return _Interval(start, stop, lo, hi)


def _width(found: list[_Interval], most: int) -> int | None:
    """Keys between both bounds, which is the same for all entries; None if there are not both."""
    if all(each.lo is None for each in found) or all(each.hi is None for each in found):
        return None
    return next((each.hi - each.lo for each in found if each.lo is not None and each.hi is not None), 2 * most)


def _bounded(each: _Interval, width: int | None) -> _Interval:
    """An interval that has both bounds, if there is a width."""
    if width is None:
        return each
    hi = each.hi if each.hi is not None else each.stop if each.lo is None else each.lo + width
    return _Interval(each.start, each.stop, hi - width, hi)


def _options(found: list[_Interval], width: int | None, batch: int, keys: int) -> dict[str, Any] | None:
    options: dict[str, Any] = {}
    if width is not None and width < 1:
        return None
    if any(each.hi is not None for each in found):
        options["causal"] = True
        # Where nothing bounds an entry, its queries stand behind all keys.
        places = [each.stop if each.hi is None else each.hi - 1 for each in found]
        if width is not None:
            options["window"] = (width - 1, -1)
    elif any(each.lo is not None for each in found):
        options["window"] = (0, -1)
        places = [each.start - keys if each.lo is None else each.lo for each in found]
    else:
        places = []
    if places:
        options["query_offset"] = places[0] if len(set(places)) == 1 else places
    for name, usual in (("key_start", 0), ("key_lengths", keys)):
        numbers = [each.start if name == "key_start" else each.stop for each in found]
        if any(number != usual for number in numbers):
            options[name] = numbers * (batch if len(numbers) == 1 else 1)
    return options

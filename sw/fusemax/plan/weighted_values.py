"""Values summed with weights that the host has worked out, one number for each pair of a query and a key."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..planning.masks import Mask
from ..runtime.options import SweepOptions
from ..spec import Config, ceil_div
from .array import Array, Sums
from .weight_scores import score_parts, weight_scores

__all__ = ["block_of", "weighted_values"]


def block_of(config: Config) -> int:
    """Queries whose weights are the contraction elements of one copy of the values: as many as take the fewest cycles.

    A key tile has two elements for each of them, and is loaded for as many query tiles.
    """
    room = config.max_e // 2

    def cycles(tiles: int) -> float:
        elements = 2 * min(tiles * config.columns, room)
        slots = elements + config.max_f + 2
        beats = config.rows * (config.beats(elements) + config.beats(config.max_f))
        return max(beats, tiles * slots) / min(tiles * config.columns, room)

    tiles = min(range(1, ceil_div(room, config.columns) + 1), key=cycles)
    return min(tiles * config.columns, room)


def weighted_values(
    array: Array,
    scores: NDArray[np.float64],
    v: NDArray[Any],
    mask: Mask | None,
    timeout: float | None = None,
) -> Sums:
    """Compute Σ exp(s) v and Σ exp(s) for scores s.

    Against an identity, the keys' elements are the weights' logarithms, two bfloat16 numbers each. A block of queries is a
    batch entry, since its weights are the keys of no other.

    Pairs that are not seen have no influence, whatever the values are. If a window, lengths and the like say which those are,
    they do so in the machine. Otherwise the weight of such a pair is 0, which leaves a sum as it is; for that no reference may
    lie below a query's largest score, so a key in front of the others has that score, and a value of 0.

    Parameters
    ----------
    array
        Where it runs.
    scores
        (batch, heads, P, M), natural logarithms; -inf for pairs that are not seen.
    v
        (batch, heads, M, F), bfloat16 numbers.
    mask
        What says which pairs are seen, if it is the only reason; None if there are others.
    timeout
        Seconds after which a sweep fails; no limit if not given.

    Returns
    -------
    The sums, (batch, heads, P); their references need not be whole numbers.
    """
    batch, heads, queries, keys = scores.shape
    block = block_of(array.config)
    blocks = ceil_div(queries, block)
    largest = scores.max(axis=-1, initial=-np.inf)
    largest = np.where(np.isfinite(largest), largest, 0.0)
    # (batch, heads, blocks, keys, block): zeros for queries that fill the last block up.
    weights = np.exp(scores - largest[..., None])
    weights = np.pad(weights, [(0, 0), (0, 0), (0, blocks * block - queries), (0, 0)])
    weights = weights.reshape(batch, heads, blocks, block, keys).swapaxes(-1, -2)
    logarithms = weight_scores(array.config, weights)
    if mask is None:
        logarithms = np.concatenate([np.zeros((batch, heads, blocks, 1, block)), logarithms], axis=-2)
        v = np.concatenate([np.zeros((batch, heads, 1, v.shape[-1]), v.dtype), v], axis=-2)
        given: SweepOptions = {}
    else:
        given = _options(mask, batch, heads, blocks, block, keys)
    given["timeout"] = timeout
    entries = batch * heads * blocks
    key = score_parts(logarithms).reshape(entries, 1, -1, 2 * block)
    value = np.broadcast_to(v[:, :, None], (batch, heads, blocks, *v.shape[-2:])).reshape(entries, 1, *v.shape[-2:])
    one = np.broadcast_to(np.repeat(np.eye(block), 2, axis=-1), (entries, 1, block, 2 * block))
    sums = array.sums(one, key, value, math.log(2), **given)
    found = Sums(*(_queries(part, batch, heads, queries) for part in (sums.reference, sums.denominator, sums.numerator)))
    if mask is None:
        # The key in front has a weight of 1, and the reference is 0.
        found = replace(found, denominator=found.denominator - 1)
    return replace(found, reference=found.reference + largest / math.log(2))


def _queries(part: NDArray[np.float64], batch: int, heads: int, queries: int) -> NDArray[np.float64]:
    """(entries, 1, block, ...) as (batch, heads, P, ...)."""
    return part.reshape(batch, heads, -1, *part.shape[3:])[:, :, :queries]


def _options(mask: Mask, batch: int, heads: int, blocks: int, block: int, keys: int) -> SweepOptions:
    """The mask of every block as options of a call with a batch entry for each."""

    def each(numbers: tuple[int, ...]) -> NDArray[np.int64]:
        return np.repeat(np.broadcast_to(np.asarray(numbers, np.int64), batch), heads * blocks)

    moved = np.tile(np.arange(blocks) * block, batch * heads)
    found: SweepOptions = {
        "window": tuple(-1 if side is None else side for side in (mask.left, mask.right)),  # type: ignore[typeddict-item]
        "query_offset": each(mask.offsets) + moved,
        "prefix": each(mask.prefixes),
        "key_start": each(mask.key_starts),
    }
    if mask.key_lengths is not None:
        found["key_lengths"] = np.minimum(each(mask.key_lengths), keys)
    return found

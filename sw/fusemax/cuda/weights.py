"""References and weights of scores in Triton."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["NO_REFERENCE", "compute_weights", "find_local_references", "run_references"]

#: Reference of a query that has not seen a key; further below all others than the largest rescale distance.
NO_REFERENCE = tl.constexpr(-(1 << 30))


@triton.jit
def _visible(lo_ptr, hi_ptr, head, queries, keys, query, row, key, ROWS: tl.constexpr, MASKED: tl.constexpr):
    """Which keys of a tile the queries see, (rows, queries)."""
    seen = (row < ROWS) & (key < keys) & (query < queries)
    if MASKED:
        lo = tl.load(lo_ptr + head * queries + query, mask=query < queries, other=0)
        hi = tl.load(hi_ptr + head * queries + query, mask=query < queries, other=0)
        seen = seen & (key >= lo) & (key < hi)
    return seen


@triton.jit(do_not_specialize=["queries", "keys", "tiles"])
def find_local_references(
    score_ptr, lo_ptr, hi_ptr, reference_ptr, queries, queries_padded, keys, keys_padded, tiles,
    ROWS: tl.constexpr, ROWS_POWER: tl.constexpr, FRACTION: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Largest visible score of every tile, rounded up to an integer: rows 1 to ``tiles`` of (heads, tiles + 1, P)."""
    tile = tl.program_id(0)
    block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    query = (block * BLOCK + tl.arange(0, BLOCK))[None, :]
    row = tl.arange(0, ROWS_POWER)[:, None]
    key = tile * ROWS + row
    seen = _visible(lo_ptr, hi_ptr, head, queries, keys, query, row, key, ROWS, MASKED)
    score = tl.load(score_ptr + (head * keys_padded + key.to(tl.int64)) * queries_padded + query, mask=seen, other=0)
    up = (score >> FRACTION).to(tl.int32) + ((score & ((1 << FRACTION) - 1)) != 0).to(tl.int32)
    local = tl.max(tl.where(seen, up, NO_REFERENCE), axis=0)
    place = (head * (tiles + 1) + tile + 1) * queries_padded + block * BLOCK + tl.arange(0, BLOCK)
    tl.store(reference_ptr + place, local)


@triton.jit
def _larger(left, right):
    return tl.maximum(left, right)


@triton.jit(do_not_specialize=["tiles"])
def run_references(
    reference_ptr, queries_padded, tiles, CONTINUED: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr
):  # fmt: skip
    """Running maximum down the tiles, in place. If CONTINUED, row 0 has the references before the first tile."""
    head = tl.program_id(1).to(tl.int64)
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    place = reference_ptr + head * (tiles + 1) * queries_padded + query
    if CONTINUED:
        largest = tl.load(place)
    else:
        largest = tl.full([1, BLOCK], NO_REFERENCE, tl.int32)
        tl.store(place, largest)
    for first in range(0, tiles, STEP):
        row = first + 1 + tl.arange(0, STEP)[:, None]
        rows = place + row.to(tl.int64) * queries_padded
        local = tl.load(rows, mask=row <= tiles, other=NO_REFERENCE)
        running = tl.maximum(tl.associative_scan(local, 0, _larger), largest)
        tl.store(rows, running, mask=row <= tiles)
        largest = tl.max(running, axis=0)[None, :]


@triton.jit(do_not_specialize=["queries", "keys", "blocks", "tiles"])
def compute_weights(
    score_ptr, lo_ptr, hi_ptr, reference_ptr, value_ptr, slope_ptr, weight_ptr, range_ptr,
    queries, queries_padded, keys, keys_padded, tiles, blocks,
    ROWS: tl.constexpr, ROWS_POWER: tl.constexpr, FRACTION: tl.constexpr, MASKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Weights (heads, tiles · rows, P) as float64 numbers.

    ``range`` (heads, tiles, blocks, 2): the largest and the smallest exponent w of weights that are not zero.
    """
    tile = tl.program_id(0)
    block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    column = block * BLOCK + tl.arange(0, BLOCK)
    query = column[None, :]
    row = tl.arange(0, ROWS_POWER)[:, None]
    key = tile * ROWS + row
    seen = _visible(lo_ptr, hi_ptr, head, queries, keys, query, row, key, ROWS, MASKED)
    score = tl.load(score_ptr + (head * keys_padded + key.to(tl.int64)) * queries_padded + query, mask=seen, other=0)
    reference = tl.load(reference_ptr + (head * (tiles + 1) + tile + 1) * queries_padded + column)
    exponent = reference[None, :] - (score >> FRACTION).to(tl.int32)
    live = seen & (exponent >= 0) & (exponent <= 63)
    fraction = (score & ((1 << FRACTION) - 1)).to(tl.int32)
    index = fraction >> (FRACTION - 5)
    rest = fraction & ((1 << (FRACTION - 5)) - 1)
    placed = ((rest * tl.load(slope_ptr + index) >> (FRACTION - 10)) + 1) >> 1
    mantissa = (tl.load(value_ptr + index) + placed) >> 1
    weight = ((1023 - exponent).to(tl.int64) << 52) | ((mantissa & 0xFFFF).to(tl.int64) << 36)
    place = weight_ptr + (head * tiles * ROWS + key) * queries_padded + query
    tl.store(place, tl.where(live, weight, 0), mask=row < ROWS)
    # Of weights that are all zero the range is empty.
    largest = tl.max(tl.max(tl.where(live, exponent, -512), axis=1), axis=0)
    smallest = tl.min(tl.min(tl.where(live, exponent, 512), axis=1), axis=0)
    place = range_ptr + ((head * tiles + tile) * blocks + block) * 2
    tl.store(place, largest)
    tl.store(place + 1, smallest)

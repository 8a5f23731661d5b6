"""Sums of weights by values in Triton, tile by tile, and the running sums of the lanes.

Both are float64 numbers. A partial sum T in units of G is a multiple of G below 2^51 of them; T + 1.5·2^52·G has neighbours G
apart. So one addition that rounds down takes the partial sum to a larger unit, and one multiply-add, of values that are
moved off ties, adds the rounded product. The exponent of the unit is a running maximum, kept where float64 has it.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import triton
import triton.language as tl

from .rounding import add_down
from .weights import NO_REFERENCE

__all__ = ["accumulate_sums", "exponent_offset"]


def exponent_offset(align: int) -> tuple[int, int]:
    """Split the exponent field of 1.5·2^52·G at product exponent 0 into a multiple of 8 and the rest.

    A product with exponent a has the unit 2^(105 - align - 8·(a // 8)) (:func:`fusemax.arith.column_sum.unit_exponent`).
    """
    field = 1023 + 52 + 105 - align
    return field & -8, field & 7


@triton.jit
def _tile_sum(
    weight_ptr, value_ptr, exponent_ptr, queries_padded, columns,
    FIRST: tl.constexpr, REST: tl.constexpr, ROWS: tl.constexpr, UNROLL: tl.constexpr, FAR: tl.constexpr,
    BLOCK_F: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Sum of a tile's products, row by row; with FAR, units may be so far apart that nothing is left of a partial sum."""
    total = tl.zeros([BLOCK_F, BLOCK_Q], tl.float64)
    # Below the unit of any product.
    field = tl.full([BLOCK_F, BLOCK_Q], (FIRST - 504) << 20, tl.int32)
    for _ in tl.range(0, ROWS, loop_unroll_factor=UNROLL):
        weight = tl.load(weight_ptr)
        value = tl.load(value_ptr)
        high = (weight.to(tl.int64, bitcast=True) >> 32).to(tl.int32)
        raised = tl.maximum(field, tl.load(exponent_ptr) + high)
        if FAR:
            steps = (raised & -(1 << 23)) - (field & -(1 << 23))
            total = tl.where(steps >= 4 << 23, 0.0, total)
        field = raised
        unit = ((field & -(1 << 23)) | (REST << 20 | 1 << 19)).to(tl.int64) << 32
        unit = unit.to(tl.float64, bitcast=True)
        total = tl.fma(value, weight, add_down(total, unit)) - unit
        weight_ptr += queries_padded
        value_ptr += columns
        exponent_ptr += columns
    return total


@triton.jit
def _add_to_state(state, addend):
    """state + addend, rounded once to nearest even to 24 bits; 0 below 2^-511."""
    total = state + addend
    part = total - state
    lost = (state - (total - part)) + (addend - part)
    bits = total.to(tl.int64, bitcast=True)
    # To odd first.
    away = tl.where((lost > 0) == (total > 0), 1, -1)
    bits += tl.where((lost != 0) & ((bits & 1) == 0), away, 0)
    bits += ((bits >> 29) & 1) + ((1 << 28) - 1)
    state = (bits & -(1 << 29)).to(tl.float64, bitcast=True)
    return tl.where(tl.abs(state) < 2.0**-511, 0.0, state)


@triton.jit(do_not_specialize=["queries", "q_blocks", "f_blocks", "tiles", "share"])
def accumulate_sums(
    weight_ptr, weight_range_ptr, value_ptr, exponent_ptr, value_range_ptr, reference_ptr, lo_ptr, hi_ptr, state_ptr,
    queries, queries_padded, tiles, columns, q_blocks, f_blocks,
    share, ROWS: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, MASKED: tl.constexpr,
    UNROLL: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Add all tiles to the running sums ``state`` (heads, columns, P), float64."""
    q_block = tl.program_id(0)
    f_block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    key_head = head // share
    query = q_block * BLOCK_Q + tl.arange(0, BLOCK_Q)[None, :]
    column = f_block * BLOCK_F + tl.arange(0, BLOCK_F)[:, None]
    first = 0
    last = tiles
    if MASKED:
        lo = tl.load(lo_ptr + head * queries + query, mask=query < queries, other=2147483647)
        hi = tl.load(hi_ptr + head * queries + query, mask=query < queries, other=0)
        last = tl.minimum(tiles, (tl.max(tl.max(hi, axis=1), axis=0) + ROWS - 1) // ROWS)
        first = tl.minimum(last, tl.min(tl.min(lo, axis=1), axis=0) // ROWS)
    reference_place = reference_ptr + head * (tiles + 1) * queries_padded + query
    if MASKED:
        reference_place += first.to(tl.int64) * queries_padded
    before = tl.load(reference_place)
    state_place = state_ptr + (head * columns + column) * queries_padded + query
    state = tl.load(state_place)
    for tile in range(first, last):
        place = head * tiles + tile
        key_place = key_head * tiles + tile
        w_range = weight_range_ptr + (place * q_blocks + q_block) * 2
        v_range = value_range_ptr + (key_place * f_blocks + f_block) * 2
        largest = tl.load(w_range) + tl.load(v_range)
        smallest = tl.load(w_range + 1) + tl.load(v_range + 1)
        weight = weight_ptr + place * ROWS * queries_padded + query
        value = value_ptr + key_place * ROWS * columns + column
        exponent = exponent_ptr + key_place * ROWS * columns + column
        if (largest >> 3) - (smallest >> 3) > 3:
            total = _tile_sum(
                weight, value, exponent, queries_padded, columns, FIRST, REST, ROWS, UNROLL, True, BLOCK_F, BLOCK_Q
            )
        else:
            total = _tile_sum(
                weight, value, exponent, queries_padded, columns, FIRST, REST, ROWS, UNROLL, False, BLOCK_F, BLOCK_Q
            )
        reference_place += queries_padded
        reference = tl.load(reference_place)
        distance = tl.where(before == NO_REFERENCE, 0, tl.minimum(reference - before, 255))
        before = reference
        power = ((1023 - distance).to(tl.int64) << 52).to(tl.float64, bitcast=True)
        state = _add_to_state(state * power, total)
    tl.store(state_place, state)

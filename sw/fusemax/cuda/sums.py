"""Sums of weights by values in Triton, tile by tile, and the running sums of the lanes.

Both are float64 numbers. A partial sum T in units of G is a multiple of G below 2^51 of them; T + 1.5·2^52·G has neighbours G
apart. So one addition that rounds down takes the partial sum to a larger unit, and one multiply-add, of values that are
moved off ties, adds the rounded product. The exponent of the unit is a running maximum, kept where float64 has it.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from .rounding import add_down, add_up
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
    total = tl.zeros([BLOCK_Q, BLOCK_F], tl.float64)
    # Below the unit of any product.
    field = tl.full([BLOCK_Q, BLOCK_F], (FIRST - 504) << 20, tl.int32)
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
    down = add_down(state, addend)
    down_bits = down.to(tl.int64, bitcast=True)
    # Rounded to odd: if the sum is not exact, that of its two neighbours whose last bit is 1.
    odd = tl.where((down_bits & 1) == 1, down, add_up(state, addend))
    # A sum with this one is a multiple of the last of 24 bits.
    bits = odd.to(tl.int64, bitcast=True)
    unit = (((bits >> 52) & 0x7FF) + 29 << 52) | (1 << 51)
    unit = unit.to(tl.float64, bitcast=True)
    rounded = (odd + unit) - unit
    return tl.where(tl.abs(rounded) < 2.0**-511, 0.0, rounded)


@triton.jit
def _touch(words_ptr, row_words, ROWS: tl.constexpr, ROWS_POWER: tl.constexpr, SECTORS: tl.constexpr):
    """A word of each 32 bytes of the rows of a tile: that brings them into the nearest cache."""
    row = tl.arange(0, ROWS_POWER)[:, None]
    sector = tl.arange(0, SECTORS)[None, :]
    return tl.load(words_ptr + row * row_words + sector * 8, mask=row < ROWS, other=0)


@triton.jit(do_not_specialize=["queries", "q_blocks", "f_blocks", "tiles", "share"])
def accumulate_sums(
    weight_ptr, weight_range_ptr, value_ptr, exponent_ptr, value_range_ptr, reference_ptr, lo_ptr, hi_ptr, state_ptr,
    touched_ptr, queries, queries_padded, tiles, columns, q_blocks, f_blocks, share,
    ROWS: tl.constexpr, ROWS_POWER: tl.constexpr, FIRST: tl.constexpr, REST: tl.constexpr, MASKED: tl.constexpr,
    CONTINUED: tl.constexpr, UNROLL: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Add all tiles to the running sums ``state`` (heads, P, columns), float64.

    ``touched`` has a word for each program that means nothing.
    """
    q_block = tl.program_id(0)
    f_block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    key_head = head // share
    query = q_block * BLOCK_Q + tl.arange(0, BLOCK_Q)[:, None]
    column = f_block * BLOCK_F + tl.arange(0, BLOCK_F)[None, :]
    first = 0
    last = tiles
    if MASKED:
        lo = tl.load(lo_ptr + head * queries + query, mask=query < queries, other=2147483647)
        hi = tl.load(hi_ptr + head * queries + query, mask=query < queries, other=0)
        last = tl.minimum(tiles, (tl.max(tl.max(hi, axis=1), axis=0) + ROWS - 1) // ROWS)
        first = tl.minimum(last, tl.min(tl.min(lo, axis=1), axis=0) // ROWS)
    place = head * tiles + first
    key_place = key_head * tiles + first
    reference_place = reference_ptr + (place + head) * queries_padded + query
    before = tl.load(reference_place)
    state_place = state_ptr + (head * queries_padded + query) * columns + column
    if CONTINUED:
        state = tl.load(state_place)
    else:
        # In the layout of the sums, which loads would change.
        state = tl.zeros([BLOCK_Q, BLOCK_F], tl.float64)
    weights = weight_ptr + place * ROWS * queries_padded + q_block * BLOCK_Q
    values = value_ptr + key_place * ROWS * columns + f_block * BLOCK_F
    exponents = exponent_ptr + key_place * ROWS * columns + f_block * BLOCK_F
    w_range = weight_range_ptr + (place * q_blocks + q_block) * 2
    v_range = value_range_ptr + (key_place * f_blocks + f_block) * 2
    # Memory is touched a tile ahead. What the words are means nothing, but they must be used.
    WEIGHT_SECTORS: tl.constexpr = (BLOCK_Q + 3) // 4
    VALUE_SECTORS: tl.constexpr = (BLOCK_F + 3) // 4
    EXPONENT_SECTORS: tl.constexpr = (BLOCK_F + 7) // 8
    word: tl.constexpr = tl.pointer_type(tl.int32)
    touched_weights = tl.zeros([ROWS_POWER, WEIGHT_SECTORS], tl.int32)
    touched_values = tl.zeros([ROWS_POWER, VALUE_SECTORS], tl.int32)
    touched_exponents = tl.zeros([ROWS_POWER, EXPONENT_SECTORS], tl.int32)
    largest = 0
    smallest = 0
    if first < last:
        largest = tl.load(w_range) + tl.load(v_range)
        smallest = tl.load(w_range + 1) + tl.load(v_range + 1)
    for tile in range(first, last):
        # What the next tile needs is on its way while this one is worked on.
        ahead = tl.minimum(tile + 1, last - 1) - tile
        w_range += ahead * q_blocks * 2
        v_range += ahead * f_blocks * 2
        reference_place += queries_padded
        reference = tl.load(reference_place)
        next_largest = tl.load(w_range) + tl.load(v_range)
        next_smallest = tl.load(w_range + 1) + tl.load(v_range + 1)
        next_weights = weights + ahead * ROWS * queries_padded
        next_values = values + ahead * ROWS * columns
        next_exponents = exponents + ahead * ROWS * columns
        weight_words = _touch(next_weights.to(word, bitcast=True), queries_padded * 2, ROWS, ROWS_POWER, WEIGHT_SECTORS)
        value_words = _touch(next_values.to(word, bitcast=True), columns * 2, ROWS, ROWS_POWER, VALUE_SECTORS)
        exponent_words = _touch(next_exponents, columns, ROWS, ROWS_POWER, EXPONENT_SECTORS)
        weight = weights + tl.arange(0, BLOCK_Q)[:, None]
        value = values + tl.arange(0, BLOCK_F)[None, :]
        exponent = exponents + tl.arange(0, BLOCK_F)[None, :]
        if (largest >> 3) - (smallest >> 3) > 3:
            total = _tile_sum(
                weight, value, exponent, queries_padded, columns, FIRST, REST, ROWS, UNROLL, True, BLOCK_F, BLOCK_Q
            )
        else:
            total = _tile_sum(
                weight, value, exponent, queries_padded, columns, FIRST, REST, ROWS, UNROLL, False, BLOCK_F, BLOCK_Q
            )
        distance = tl.where(before == NO_REFERENCE, 0, tl.minimum(reference - before, 255))
        before = reference
        power = ((1023 - distance).to(tl.int64) << 52).to(tl.float64, bitcast=True)
        state = _add_to_state(state * power, total)
        weights = next_weights
        values = next_values
        exponents = next_exponents
        largest = next_largest
        smallest = next_smallest
        touched_weights += weight_words
        touched_values += value_words
        touched_exponents += exponent_words
    tl.store(state_place, state)
    touched = tl.max(tl.max(touched_weights, axis=1), axis=0) + tl.max(tl.max(touched_values, axis=1), axis=0)
    touched += tl.max(tl.max(touched_exponents, axis=1), axis=0)
    tl.store(touched_ptr + (head * f_blocks + f_block) * q_blocks + q_block, touched)

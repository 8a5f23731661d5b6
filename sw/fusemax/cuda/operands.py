"""Queries, keys and values as the kernels of scores and sums read them: columns of numbers, lengths, exponents."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["CHUNK", "HUGE", "NONFINITE", "OVERFLOW", "prepare_keys", "prepare_queries", "prepare_values"]

#: Bits of the flags: a visible score or a scaled query left its range; an infinity or a NaN is among the inputs.
OVERFLOW = tl.constexpr(1)
NONFINITE = tl.constexpr(2)
#: Elements of a head dim whose products are summed before the sum is read.
CHUNK = tl.constexpr(16)
#: Length of a row that has a number which float32 does not hold; the square is a float64.
HUGE = tl.constexpr(1e150)
#: A scaled query's exponent field above this one is of a number near the end of float32's range.
MOST_FIELD = tl.constexpr(234)
#: Moves a product of 26 bits off a tie.
OFF_TIE = tl.constexpr(2.0**-50)


@triton.jit(do_not_specialize=["queries", "e", "chunks", "blocks", "q_head", "q_row", "scale_head", "scale_row"])
def prepare_queries(
    q_ptr, q_head, q_row, scale_ptr, scale_head, scale_row, value_ptr, word_ptr, length_ptr, flags_ptr,
    queries, queries_padded, blocks, e, chunks, BIAS: tl.constexpr, FRACTION: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Scale queries as :func:`fusemax.arith.query_scale.scale_query` does.

    ``value`` (heads, E, P): float32 whose product with a key's element is in units of a score; ``word``: operand · 512 +
    exponent word; ``length`` (heads, chunks, blocks): the largest Euclidean length of a chunk in a block. E is padded to
    whole chunks.
    """
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    row = block * BLOCK + tl.arange(0, BLOCK)
    inside = row < queries
    scale = tl.load(scale_ptr + head * scale_head + row * scale_row, mask=inside, other=0).to(tl.int32)
    scale_exponent = (scale >> 23) & 0xFF
    scale_sig = tl.where(scale_exponent == 0, 0, (1 << 23) | (scale & 0x7FFFFF)).to(tl.int64)
    wrong = tl.zeros([BLOCK], tl.int32)
    largest = tl.zeros([BLOCK], tl.int32)
    for chunk in range(chunks):
        element = chunk * CHUNK + tl.arange(0, CHUNK)
        there = (element < e)[:, None] & inside[None, :]
        place = q_ptr + head * q_head + row.to(tl.int64)[None, :] * q_row + element[:, None]
        bits = tl.load(place, mask=there, other=0).to(tl.int32) & 0xFFFF
        q_exponent = (bits >> 7) & 0xFF
        largest = tl.maximum(largest, tl.max(q_exponent, axis=0))
        sig = tl.where(q_exponent == 0, 0, 128 | (bits & 0x7F)).to(tl.int64)
        product = sig * scale_sig[None, :]
        upper = product >> 31
        drop = upper + 14
        kept = product >> drop
        rest = product - (kept << drop)
        half = (upper + 1) << 13
        rounded = kept + ((rest > half) | ((rest == half) & ((kept & 1) == 1))).to(tl.int64)
        carry = rounded >> 17
        magnitude = (rounded >> carry).to(tl.int32)
        exponent = q_exponent + scale_exponent[None, :] - 127 + (upper + carry).to(tl.int32)
        nonzero = (product != 0) & (exponent > 0)
        wrong = tl.maximum(wrong, tl.max((nonzero & (exponent > 254)).to(tl.int32), axis=0))
        magnitude = tl.where(nonzero, magnitude, 0)
        exponent = tl.where(nonzero, tl.minimum(exponent, 254), 0)
        negative = ((bits >> 15) ^ (scale >> 31)[None, :]) & 1
        operand = tl.where(negative == 1, -magnitude, magnitude)
        # operand · 2^(field - 127): that of a key's element is its bfloat16 number.
        field = exponent + FRACTION - 16
        power = (tl.minimum(field, MOST_FIELD) + 896).to(tl.int64) << 52
        value = operand.to(tl.float64) * power.to(tl.float64, bitcast=True)
        out = (head * chunks * CHUNK + element.to(tl.int64))[:, None] * queries_padded + row[None, :]
        tl.store(value_ptr + out, value.to(tl.float32))
        tl.store(word_ptr + out, operand * 512 + ((BIAS - exponent) & 511))
        square = tl.max(tl.sum(value * value, axis=0), axis=0)
        length = tl.where(tl.max(tl.max(field, axis=0), axis=0) > MOST_FIELD, HUGE, tl.sqrt(square))
        tl.store(length_ptr + (head * chunks + chunk) * blocks + block, length)
    if tl.max(wrong, axis=0) > 0:
        tl.atomic_or(flags_ptr, OVERFLOW)
    if tl.max(largest, axis=0) == 255:
        tl.atomic_or(flags_ptr, NONFINITE)


@triton.jit(do_not_specialize=["keys", "e", "chunks", "blocks", "k_head", "k_row"])
def prepare_keys(
    k_ptr, k_head, k_row, value_ptr, length_ptr, flags_ptr, keys, keys_padded, blocks,
    e, chunks, BLOCK: tl.constexpr,
):  # fmt: skip
    """Keys as float32 numbers (heads, E, M), subnormal ones as 0, and the largest length of a chunk in a block."""
    block = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    row = block * BLOCK + tl.arange(0, BLOCK)
    for chunk in range(chunks):
        element = chunk * CHUNK + tl.arange(0, CHUNK)
        there = (element < e)[:, None] & (row < keys)[None, :]
        place = k_ptr + head * k_head + row.to(tl.int64)[None, :] * k_row + element[:, None]
        bits = tl.load(place, mask=there, other=0).to(tl.int32) & 0xFFFF
        exponent = (bits >> 7) & 0xFF
        bits = tl.where(exponent == 0, 0, bits << 16)
        out = (head * chunks * CHUNK + element.to(tl.int64))[:, None] * keys_padded + row[None, :]
        tl.store(value_ptr + out, bits)
        nonfinite = tl.max(tl.max(exponent, axis=0), axis=0) == 255
        finite = tl.where(exponent == 255, 0, bits).to(tl.float32, bitcast=True).to(tl.float64)
        square = tl.max(tl.sum(finite * finite, axis=0), axis=0)
        tl.store(length_ptr + (head * chunks + chunk) * blocks + block, tl.where(nonfinite, HUGE, tl.sqrt(square)))
        if nonfinite:
            tl.atomic_or(flags_ptr, NONFINITE)


@triton.jit(do_not_specialize=["keys", "f", "blocks", "tiles", "v_head", "v_row"])
def prepare_values(
    v_ptr, v_head, v_row, value_ptr, exponent_ptr, range_ptr, flags_ptr, keys, tiles, columns, blocks,
    f, ROWS: tl.constexpr, ROWS_POWER: tl.constexpr, OFFSET: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Values as float64 numbers moved off ties, (heads, tiles · rows, columns), column f being ones, those behind it zeros.

    ``exponent``: (OFFSET - y) · 2^20; ``range`` (heads, tiles, blocks, 2): the largest and the smallest y of values that are
    not zero in a block of columns of a tile.
    """
    tile = tl.program_id(0)
    block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    row = tl.arange(0, ROWS_POWER)[:, None]
    key = tile * ROWS + row
    column = (block * BLOCK + tl.arange(0, BLOCK))[None, :]
    there = (row < ROWS) & (key < keys) & (column < f)
    bits = tl.load(v_ptr + head * v_head + key.to(tl.int64) * v_row + column, mask=there, other=0).to(tl.int32) & 0xFFFF
    bits = tl.where((column == f) & (row < ROWS), 0x3F80, bits)
    exponent = (bits >> 7) & 0xFF
    if tl.max(tl.max(exponent, axis=1), axis=0) == 255:
        tl.atomic_or(flags_ptr, NONFINITE)
    nonzero = exponent > 0
    fraction = (bits & 0x7F).to(tl.int64) << 45
    magnitude = (((exponent + 896).to(tl.int64) << 52) | fraction).to(tl.float64, bitcast=True)
    magnitude = tl.where(nonzero, magnitude, 0.0)
    value = tl.where((bits >> 15) == 1, -magnitude, magnitude) + magnitude * OFF_TIE
    out = (head * tiles * ROWS + key) * columns + column
    inside = (row < ROWS) & (column < columns)
    tl.store(value_ptr + out, value, mask=inside)
    tl.store(exponent_ptr + out, (OFFSET - (255 - exponent)) << 20, mask=inside)
    # Of values that are all zero the range is empty.
    largest = tl.max(tl.max(tl.where(nonzero, 255 - exponent, -512), axis=1), axis=0)
    smallest = tl.min(tl.min(tl.where(nonzero, 255 - exponent, 512), axis=1), axis=0)
    place = range_ptr + ((head * tiles + tile) * blocks + block) * 2
    tl.store(place, largest)
    tl.store(place + 1, smallest)

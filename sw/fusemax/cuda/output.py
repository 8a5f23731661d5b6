"""Output rows of running sums in Triton: numerator times reciprocal of the denominator, rounded once."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from .weights import NO_REFERENCE

__all__ = ["write_denominators", "write_output"]


@triton.jit
def _split(number):
    """Exponent and 24-bit significand of float64 numbers that have no more bits; whatever of zero."""
    bits = number.to(tl.int64, bitcast=True)
    exponent = ((bits >> 52) & 0x7FF).to(tl.int32) - 1023
    significand = ((bits >> 29) & 0x7FFFFF) | (1 << 23)
    return exponent, significand


@triton.jit
def _reciprocal(significand, c0_ptr, c1_ptr, c2_ptr):
    """As :class:`fusemax.arith.reciprocal.Reciprocal` does."""
    index = ((significand >> 15) & 0xFF).to(tl.int32)
    offset = (significand & 0x7FFF) - 0x4000
    slope = tl.load(c1_ptr + index).to(tl.int64) - ((tl.load(c2_ptr + index).to(tl.int64) * (offset >> 5)) >> 13)
    return (tl.load(c0_ptr + index).to(tl.int64) - ((offset * slope) >> 14)) >> 2


@triton.jit(do_not_specialize=["queries", "f", "out_head", "out_row"])
def write_output(
    state_ptr, c0_ptr, c1_ptr, c2_ptr, out_ptr, out_head, out_row, queries, queries_padded, columns,
    f, FLOAT32: tl.constexpr, RAW: tl.constexpr, BLOCK_F: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """Bits of output rows (heads, P, F), float32 or bfloat16; with RAW the numerators as they are."""
    head = tl.program_id(2).to(tl.int64)
    query = tl.program_id(0) * BLOCK_Q + tl.arange(0, BLOCK_Q)[:, None]
    column = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)[None, :]
    inside = (query < queries) & (column < f)
    numerator = tl.load(state_ptr + (head * queries_padded + query) * columns + column, mask=inside, other=0.0)
    exponent, significand = _split(numerator)
    zero = numerator == 0
    if RAW:
        reciprocal = tl.full([BLOCK_Q, 1], 1 << 23, tl.int64)
        divisor_exponent = tl.full([BLOCK_Q, 1], -1, tl.int32)
    else:
        denominator = tl.load(state_ptr + (head * queries_padded + query) * columns + f, mask=query < queries, other=0.0)
        divisor_exponent, divisor = _split(denominator)
        reciprocal = _reciprocal(divisor, c0_ptr, c1_ptr, c2_ptr)
        zero = zero | (denominator == 0)
    FRACTION: tl.constexpr = 23 if FLOAT32 else 7
    product = significand * reciprocal
    upper = product >> 47
    drop = upper + (46 - FRACTION)
    kept = product >> drop
    rest = product - (kept << drop)
    half = (upper + 1) << (45 - FRACTION)
    rounded = kept + ((rest > half) | ((rest == half) & ((kept & 1) == 1))).to(tl.int64)
    carry = rounded >> (FRACTION + 1)
    exponent = exponent - divisor_exponent + (126 + upper + carry).to(tl.int32)
    fraction = (rounded >> carry).to(tl.int32) & ((1 << FRACTION) - 1)
    zero = zero | (exponent < 1)
    word = tl.where(exponent > 254, 0xFF << FRACTION, (exponent << FRACTION) | fraction)
    sign = (numerator.to(tl.int64, bitcast=True) >> 63).to(tl.int32) & (-(1 << 31) if FLOAT32 else 1 << 15)
    word = tl.where(zero, 0, word | sign)
    tl.store(out_ptr + head * out_head + query.to(tl.int64) * out_row + column, word.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["queries", "f", "tiles"])
def write_denominators(
    state_ptr, reference_ptr, out_ptr, queries, queries_padded, columns, tiles,
    f, BLOCK: tl.constexpr,
):  # fmt: skip
    """Reference, 0 of a query that has seen no key, and float32 bits of the denominator: (heads, P, 2) int32."""
    head = tl.program_id(1).to(tl.int64)
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = query < queries
    number = tl.load(state_ptr + (head * queries_padded + query) * columns + f, mask=inside, other=0.0)
    exponent, significand = _split(number)
    exponent += 127
    word = tl.where(exponent > 254, 0xFF << 23, (exponent << 23) | (significand.to(tl.int32) & 0x7FFFFF))
    word = tl.where((number == 0) | (exponent < 1), 0, word)
    reference = tl.load(reference_ptr + (head * (tiles + 1) + tiles) * queries_padded + query, mask=inside, other=0)
    place = out_ptr + (head * queries + query) * 2
    tl.store(place, tl.where(reference == NO_REFERENCE, 0, reference), mask=inside)
    tl.store(place + 1, word, mask=inside)

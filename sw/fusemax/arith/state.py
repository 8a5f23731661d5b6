"""The lanes' running sums RD and RNV: floating point with a 24-bit significand and a 10-bit exponent.

Value ±s · 2^(x - 23), s from 2^23 to 2^24 - 1, x from -511 to 511. Zero is x = -512 (sign 0, s = 0). A tile's sum
is an integer whose unit is a power of two: an integer n with unit u stands for n · 2^u.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "FRACTION_BITS",
    "STATE_BITS",
    "ZERO_EXPONENT",
    "NormalisedSum",
    "StateFloat",
    "accumulate",
    "add",
    "normalise",
    "pack",
    "to_float64",
    "unpack",
    "zeros",
]

#: Bits of a stored significand, without its leading one.
FRACTION_BITS = 23
#: Exponent of zero.
ZERO_EXPONENT = -512
#: Bits of a stored word: fraction (low), exponent (10 bits), sign (top).
STATE_BITS = 34

# The adder's frame: both operands have their leading one at this bit; sums below 2^62 fit int64.
_LEAD = 60


class StateFloat(NamedTuple):
    """Running sums; three arrays of one shape."""

    #: 1 if negative.
    sign: NDArray[np.int64]
    #: -512 for zero.
    exponent: NDArray[np.int64]
    #: 24 bits with the leading one; 0 for zero.
    significand: NDArray[np.int64]


class NormalisedSum(NamedTuple):
    """A tile's sums as floating-point numbers ±significand · 2^(exponent - (sum_bits - 1))."""

    #: 1 if negative.
    sign: NDArray[np.int64]
    #: Power of two of the leading one; -512 for zero.
    exponent: NDArray[np.int64]
    #: ``sum_bits`` bits, leading one on top; 0 for zero.
    significand: NDArray[np.int64]
    zero: NDArray[np.bool_]


def zeros(shape: int | tuple[int, ...]) -> StateFloat:
    """Running sums at the first key tile."""
    return StateFloat(np.zeros(shape, np.int64), np.full(shape, ZERO_EXPONENT, np.int64), np.zeros(shape, np.int64))


def pack(state: StateFloat) -> NDArray[np.int64]:
    """34-bit words: fraction in bits 22 to 0, exponent in bits 32 to 23, sign in bit 33."""
    fraction = state.significand & (1 << FRACTION_BITS) - 1
    return fraction | (state.exponent & 0x3FF) << FRACTION_BITS | state.sign << FRACTION_BITS + 10


def unpack(words: ArrayLike) -> StateFloat:
    """Running sums of 34-bit words; whatever sign and fraction stand beside a zero's exponent are dropped."""
    word = np.asarray(words, np.int64)
    exponent = ((word >> FRACTION_BITS) + 512 & 0x3FF) - 512
    nonzero = exponent != ZERO_EXPONENT
    significand = 1 << FRACTION_BITS | word & (1 << FRACTION_BITS) - 1
    return StateFloat(np.where(nonzero, word >> FRACTION_BITS + 10 & 1, 0), exponent, np.where(nonzero, significand, 0))


def to_float64(state: StateFloat) -> NDArray[np.float64]:
    """Running sums as float64, exactly."""
    magnitude = np.ldexp(state.significand.astype(np.float64), state.exponent - FRACTION_BITS)
    return np.where(state.sign == 1, -magnitude, magnitude)


def normalise(value: ArrayLike, unit: ArrayLike, sum_bits: int) -> NormalisedSum:
    """Sign and magnitude of tile sums, shifted left until the leading one is at bit ``sum_bits - 1``.

    Parameters
    ----------
    value
        Integers, ``sum_bits`` two's complement.
    unit
        The sums' unit is 2^unit (:func:`~fusemax.arith.column_sum.unit_exponent`). Broadcasts.
    sum_bits
        At most 48.
    """
    number, unit_exponent = np.broadcast_arrays(np.asarray(value, np.int64), np.asarray(unit, np.int64))
    magnitude = np.abs(number)
    zero = magnitude == 0
    lead = np.frexp(magnitude.astype(np.float64))[1].astype(np.int64) - 1  # exact below 2^53; -1 for zero
    significand = np.left_shift(magnitude, np.where(zero, 0, sum_bits - 1 - lead))
    exponent = np.where(zero, ZERO_EXPONENT, unit_exponent + lead)
    return NormalisedSum((number < 0).astype(np.int64), exponent, significand, zero)


def add(state: StateFloat, distance: ArrayLike, addend: NormalisedSum, sum_bits: int) -> StateFloat:
    """state · 2^-distance + addend, rounded to nearest even to 24 bits as if computed without limits.

    A result below 2^-511 after rounding is zero; an exact zero is +0.

    Parameters
    ----------
    distance
        0 to 255; broadcasts.
    sum_bits
        Width of the addend's significand, at most 48.
    """
    state_exponent = state.exponent - np.asarray(distance, np.int64)
    state_part = state.significand << _LEAD - FRACTION_BITS
    sum_part = addend.significand << _LEAD - (sum_bits - 1)
    # A zero needs no special case: where its exponent is the larger one, the other operand's result is below 2^-511.
    exponent = np.maximum(state_exponent, addend.exponent)

    def align(part: NDArray[np.int64], own_exponent: NDArray[np.int64]) -> NDArray[np.int64]:
        # Lost bits make the lowest bit odd. At least 12 zero bits stand below either significand, so bits are lost only
        # at distances where the leading one moves by at most one, and an odd value is never on a rounding boundary.
        amount = np.minimum(exponent - own_exponent, 62)
        kept = part >> amount
        return kept | (kept << amount != part)

    state_aligned = align(state_part, state_exponent)
    sum_aligned = align(sum_part, addend.exponent)
    total = np.where(state.sign == 1, -state_aligned, state_aligned) + np.where(addend.sign == 1, -sum_aligned, sum_aligned)
    magnitude = np.abs(total)

    lead = _bit_length(magnitude) - 1
    drop = lead - FRACTION_BITS
    right, left = np.maximum(drop, 0), np.maximum(-drop, 0)
    kept = magnitude >> right << left
    rest = magnitude - (magnitude >> right << right)
    half = np.where(right > 0, np.int64(1) << np.maximum(right - 1, 0), np.int64(1) << 62)
    rounded = kept + ((rest > half) | (rest == half) & (kept & 1 == 1))
    carry = rounded >> FRACTION_BITS + 1
    result_exponent = exponent + lead - _LEAD + carry
    zero = (magnitude == 0) | (result_exponent <= ZERO_EXPONENT)
    return StateFloat(
        np.where(zero, 0, (total < 0).astype(np.int64)),
        np.where(zero, ZERO_EXPONENT, result_exponent),
        np.where(zero, 0, rounded >> carry),
    )


def accumulate(state: StateFloat, distance: ArrayLike, value: ArrayLike, unit: ArrayLike, sum_bits: int = 48) -> StateFloat:
    """state · 2^-distance + value · 2^unit, rounded to nearest even to 24 bits: :func:`normalise`, then :func:`add`."""
    return add(state, distance, normalise(value, unit, sum_bits), sum_bits)


def _bit_length(magnitude: NDArray[np.int64]) -> NDArray[np.int64]:
    # float64 may round up to the next power of two, so the upper and the lower half are looked at separately.
    upper = magnitude >> 32
    high = np.frexp(upper.astype(np.float64))[1].astype(np.int64)
    low = np.frexp((magnitude & 0xFFFFFFFF).astype(np.float64))[1].astype(np.int64)
    return np.where(upper > 0, high + 32, low)

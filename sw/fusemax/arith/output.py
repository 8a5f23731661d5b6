"""Output of a lane: numerator times reciprocal of the denominator, rounded once to float32 or bfloat16."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .reciprocal import RECIPROCAL
from .state import ZERO_EXPONENT, StateFloat

__all__ = ["divide", "multiply_reciprocal", "state_to_float32", "undivided"]


def multiply_reciprocal(
    numerator: StateFloat, reciprocal: NDArray[np.int64], denominator_exponent: NDArray[np.int64], float32: bool
) -> NDArray[np.uint32 | np.uint16]:
    """Bits of numerator · reciprocal · 2^(-24 - denominator_exponent), rounded to nearest even to 24 or 8 bits.

    The exponent is judged after rounding: below 2^-126 the result is +0, above the format infinity. A zero
    numerator or a zero denominator gives +0.

    Parameters
    ----------
    reciprocal
        24 fraction bits, 2^23 to 2^24 - 1 (0 if the denominator is zero).
    denominator_exponent
        -512 if the denominator is zero.
    float32
        float32 bits (uint32) if true, else bfloat16 bits (uint16).
    """
    product = numerator.significand * reciprocal  # 48 bits; leading one at bit 46 or 47
    upper = product >> 47
    drop = 46 + upper - (23 if float32 else 7)
    kept = product >> drop
    rest = product - (kept << drop)
    half = np.int64(1) << drop - 1
    rounded = kept + ((rest > half) | (rest == half) & (kept & 1 == 1))
    fraction_bits = 23 if float32 else 7
    carry = rounded >> fraction_bits + 1
    exponent = numerator.exponent - denominator_exponent - 1 + upper + carry + 127
    fraction = (rounded >> carry) & (1 << fraction_bits) - 1

    sign = numerator.sign << fraction_bits + 8
    zero = (numerator.exponent == ZERO_EXPONENT) | (denominator_exponent == ZERO_EXPONENT) | (exponent < 1)
    word = np.where(
        exponent > 254, sign | 0xFF << fraction_bits, sign | np.where(zero, 0, exponent) << fraction_bits | fraction
    )
    return np.where(zero, 0, word).astype(np.uint32 if float32 else np.uint16)


def divide(numerator: StateFloat, denominator: StateFloat, float32: bool) -> NDArray[np.uint32 | np.uint16]:
    """Bits of numerator times :data:`RECIPROCAL` of the denominator, which is positive or zero; shapes broadcast."""
    reciprocal = np.where(denominator.exponent == ZERO_EXPONENT, 0, RECIPROCAL.model(denominator.significand))
    return multiply_reciprocal(numerator, reciprocal, denominator.exponent, float32)


def undivided(numerator: StateFloat, float32: bool) -> NDArray[np.uint32 | np.uint16]:
    """Bits of numerators that are not divided: the multiplier's other factor is 1."""
    return multiply_reciprocal(numerator, np.array(1 << 23), np.array(-1), float32)


def state_to_float32(state: StateFloat) -> NDArray[np.uint32]:
    """float32 bits of running sums: exact, but below 2^-126 +0 and above the format infinity."""
    exponent = state.exponent + 127
    sign = state.sign << 31
    word = np.where(exponent > 254, sign | 0xFF << 23, sign | np.clip(exponent, 0, 254) << 23 | state.significand & 0x7FFFFF)
    return np.where(exponent < 1, 0, word).astype(np.uint32)

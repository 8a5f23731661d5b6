"""bfloat16 as the machine reads it: a two's complement significand and a biased exponent."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BIAS", "from_bits", "is_nonfinite", "round_float64", "to_bits", "unpack"]

#: An element's value is sig · 2^(E - 127 - 7).
BIAS = 127


def unpack(bits: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Significand (9 bits two's complement, ±(128 + mantissa)) and biased exponent of bfloat16 bits.

    Zeros and subnormals give 0 and 0. Infinities and NaNs are taken for numbers with exponent 255.
    """
    word = np.asarray(bits).astype(np.int64)
    exponent = word >> 7 & 0xFF
    sig = np.where(exponent == 0, 0, 128 | word & 0x7F)
    return np.where(word >> 15 & 1, -sig, sig), exponent


def is_nonfinite(bits: ArrayLike) -> NDArray[np.bool_]:
    """True where bfloat16 bits are an infinity or a NaN."""
    return np.asarray(bits).astype(np.int64) >> 7 & 0xFF == 0xFF


def to_bits(array: ArrayLike) -> NDArray[np.uint16]:
    """Bits of a bfloat16 array, or of a float32 array rounded to nearest even; NaNs become quiet.

    Raises
    ------
    TypeError
        If the array is of another type (a float64 would be rounded twice).
    """
    array = np.asarray(array)
    if array.dtype == ml_dtypes.bfloat16:
        return array.view(np.uint16)
    if array.dtype != np.float32:
        raise TypeError(f"array must be of type float32 or bfloat16, not {array.dtype}")
    word = array.view(np.uint32).astype(np.uint64)
    rounded = word + 0x7FFF + (word >> 16 & 1) >> 16
    return np.where(np.isnan(array), word >> 16 | 0x40, rounded).astype(np.uint16)


def round_float64(values: NDArray[np.float64]) -> NDArray[np.generic]:
    """bfloat16 numbers nearest to float64 numbers, to even; what is too large is infinite.

    A float32 on the way is rounded to odd, so that nothing is lost that the second rounding needs: all in all there is one.
    """
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    below = single.astype(np.float64)
    bits = single.view(np.uint32).copy()
    inexact = (below != values) & np.isfinite(below)
    # Towards zero, then odd.
    bits -= (inexact & (np.abs(below) > np.abs(values))).astype(np.uint32)
    bits |= inexact.astype(np.uint32)
    return bits.view(np.float32).astype(ml_dtypes.bfloat16)


def from_bits(bits: ArrayLike) -> NDArray[np.float32]:
    """float32 numbers of bfloat16 bits, exactly."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)

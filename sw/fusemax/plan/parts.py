"""Numbers as sums of bfloat16 numbers, which is what the array multiplies."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arith.bf16 import round_float64

__all__ = ["bfloat16", "operand", "parts_of"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def operand(values: ArrayLike) -> NDArray[Any]:
    """Round to bfloat16, to nearest even, once: an operand of the machine."""
    array = np.asarray(values)
    return round_float64(array) if array.dtype == np.float64 else array.astype(np.float32).astype(BFLOAT16)


def bfloat16(values: ArrayLike) -> NDArray[np.float64]:
    """Round to bfloat16 as :func:`operand` does; the result is in float64."""
    return operand(values).astype(np.float64)


def parts_of(values: NDArray[Any], most: int) -> list[NDArray[np.float64]]:
    """Split finite numbers into bfloat16 numbers whose sum they are.

    The error is at most 2^(-8·most) of a number. Parts that are all zero are left out, but for the first: numbers that are
    bfloat16 already have one part.

    Parameters
    ----------
    values
        Of any shape.
    most
        Parts at most, 1 or more.

    Returns
    -------
    list
        The parts in float64, the largest first.
    """
    rest = np.asarray(values, np.float64)
    parts: list[NDArray[np.float64]] = []
    while len(parts) < most and (not parts or rest.any()):
        parts.append(bfloat16(rest))
        rest = rest - parts[-1]
    return parts

"""Numbers as sums of bfloat16 numbers, which is what the array multiplies."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arith.bf16 import round_float64
from ..spec import Config

__all__ = ["bfloat16", "no_room", "operand", "parts_of"]

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


def no_room(elements: int, config: Config, parts: int) -> str:
    """Say that queries and keys of ``elements`` elements, split into parts, are more than the machine takes."""
    split = "" if parts == 1 else " once they are split into bfloat16 numbers"
    fewer = "" if parts == 1 else "parts=1 takes fewer; "
    return (
        f"queries and keys have {elements} elements{split}, and max_e of {config.name!r} is {config.max_e}; "
        f"{fewer}a configuration with a larger max_e takes more"
    )

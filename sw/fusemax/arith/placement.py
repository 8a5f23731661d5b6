"""Placing a product onto a fixed-point grid: the one shifter that QK, EXP, SUM and SLNV share."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MAX_SHIFT", "place", "wrap"]

#: Larger shifts, and negative ones, are taken for this one, which leaves nothing.
MAX_SHIFT = 63


def place(product: ArrayLike, align: int, shift: ArrayLike) -> NDArray[np.int64]:
    """floor((product << align) / 2^shift + 1/2): right shift, rounded half up.

    A shift above 63 is 63, where the result is 0; so is a negative one (the caller flags overflow).

    Parameters
    ----------
    product
        Integers of at most 27 bits two's complement.
    align
        ``Config.product_align``, at most 9.
    shift
        Integers; broadcasts with ``product``.
    """
    aligned = np.asarray(product, np.int64) << align
    amount = np.asarray(shift, np.int64)
    amount = np.where((amount < 0) | (amount > MAX_SHIFT), MAX_SHIFT, amount)
    # One bit more than is kept, so that adding the half cannot leave int64.
    return np.where(amount == 0, aligned, (aligned >> np.maximum(amount - 1, 0)) + 1 >> 1)


def wrap(value: ArrayLike, bits: int) -> NDArray[np.int64]:
    """The lowest ``bits`` bits of integers, as two's complement."""
    half = np.int64(1) << bits - 1
    return (np.asarray(value, np.int64) + half & (half << 1) - 1) - half

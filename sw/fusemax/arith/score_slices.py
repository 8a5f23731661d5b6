"""A score in three slices that are values for a column sum: ENT sums weight · score without another multiplier."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config

__all__ = ["SLICES", "score_slices", "slice_exponent"]

#: Slices of a score, the highest first: 9 bits two's complement, then 8 and 8 bits.
SLICES = 3


def score_slices(config: Config, score: ArrayLike) -> tuple[NDArray[np.int64], ...]:
    """The slices, each a value's significand.

    Bits of the score above the highest slice repeat its sign as long as |S| < 4096; those below the lowest one are dropped,
    at 16 fraction bits the last four.
    """
    score = np.asarray(score, np.int64) >> config.linear_shift
    return ((score >> 16) + 256 & 511) - 256, score >> 8 & 255, score & 255


def slice_exponent(config: Config, index: int) -> int:
    """Exponent word of slice ``index``, with which its column is a part of the sum of P·S: 255 less a value's exponent."""
    return 105 + config.score_frac_bits - config.linear_shift + 8 * index

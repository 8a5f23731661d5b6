"""Linear weight: a score as a signed weight, as LIN makes it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config
from .placement import wrap

__all__ = ["LINEAR_BITS", "LinearWeight", "linear_scale_log2", "linear_weight"]

#: Bits of a linear weight's mantissa, two's complement.
LINEAR_BITS = 18


class LinearWeight(NamedTuple):
    """P = mantissa · 2^(-16), that is S · 2^:func:`linear_scale_log2`; its exponent w is 0."""

    #: 18 bits two's complement.
    mantissa: NDArray[np.int64]
    #: The score was too large; the mantissa means nothing then.
    overflow: NDArray[np.bool_]


def linear_weight(config: Config, score: ArrayLike, rectified: bool = False) -> LinearWeight:
    """Weight of visible scores: bits ``Config.linear_shift`` and up, rounded half up; of masked rows it is 0 instead.

    Parameters
    ----------
    score
        ``Config.score_bits`` two's complement, unit 2^-SF. |S| < 32 is in range (128 at 10 fraction bits, 64 at 11), but for
        the last half unit below it.
    rectified
        Of max(S, 0).
    """
    score = np.asarray(score, np.int64)
    if rectified:
        score = np.maximum(score, 0)
    shift = config.linear_shift
    rounded = score if shift == 0 else (score >> shift - 1) + 1 >> 1
    mantissa = wrap(rounded, LINEAR_BITS)
    # The score itself must fit, even if it does so once it is rounded.
    return LinearWeight(mantissa, (mantissa != rounded) | (wrap(score >> shift, LINEAR_BITS) != score >> shift))


def linear_scale_log2(config: Config) -> int:
    """Power of two by which a linear weight is larger than its score: -4 at 12 fraction bits and more."""
    return config.score_frac_bits - config.linear_shift - 16

"""Products of a weight and a constant as scores: SET puts one into a hold register, ADD adds one to the accumulator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config
from .placement import place, wrap

__all__ = ["Score", "add_score", "add_shift", "set_score", "set_shift"]


class Score(NamedTuple):
    """Accumulator of a PE."""

    #: ``Config.score_bits`` two's complement, unit 2^-SF.
    value: NDArray[np.int64]
    #: It has left its range.
    overflow: NDArray[np.bool_]


def set_score(config: Config, mantissa: ArrayLike, exponent: ArrayLike, sig: ArrayLike, shift: ArrayLike) -> NDArray[np.int64]:
    """Score of weight · sig · 2^k, ``shift`` being :func:`set_shift` of k: rounded to half a unit, then down.

    Parameters
    ----------
    mantissa, exponent
        Weight mantissa · 2^(-16 - exponent): 18 bits two's complement; 0 to 63.
    sig
        9 bits two's complement.
    shift
        0 to 127.
    """
    product = np.asarray(mantissa, np.int64) * np.asarray(sig, np.int64)
    placed = place(product, config.product_align, np.asarray(exponent, np.int64) + np.asarray(shift, np.int64))
    return wrap(placed >> 1, config.score_bits)


def add_score(
    config: Config,
    score: Score,
    mantissa: ArrayLike,
    exponent: ArrayLike,
    sig: ArrayLike,
    shift: ArrayLike,
    clipped: bool = False,
) -> Score:
    """Score, or min(score, 0) if ``clipped``, plus weight · sig · 2^k, ``shift`` being :func:`add_shift` of k; rounded half up.

    The other parameters are those of :func:`set_score`.
    """
    product = np.asarray(mantissa, np.int64) * np.asarray(sig, np.int64)
    placed = place(product, config.product_align, np.asarray(exponent, np.int64) + np.asarray(shift, np.int64))
    total = (np.minimum(score.value, 0) if clipped else score.value) + placed
    value = wrap(total, config.score_bits)
    return Score(value, score.overflow | (value != total))


def add_shift(config: Config, k: int) -> int:
    """The right shift that the microword of an ADD of sig · 2^k has.

    Raises
    ------
    ValueError
        If there is no such shift: the constant is too large or too small.
    """
    shift = config.product_align + 16 - config.score_frac_bits - k
    if not 0 <= shift <= 127:
        raise ValueError(f"k must be from {k + shift - 127} to {k + shift} in a constant sig·2^k, not {k}")
    return shift


def set_shift(config: Config, k: int) -> int:
    """The right shift that the microword of a SET to sig · 2^k has: its lowest bit is half a score's.

    Raises
    ------
    ValueError
        If there is no such shift: the constant is too large or too small.
    """
    return add_shift(config, k + 1)

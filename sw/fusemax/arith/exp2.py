"""Weight of a score: 2^(score - reference) as a mantissa from the score's fraction alone and an exponent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config
from .placement import place

__all__ = ["MAX_WEIGHT_EXPONENT", "Exp2Table", "Weight", "exp2"]

#: Largest weight exponent w; a weight with a larger one is 0.
MAX_WEIGHT_EXPONENT = 63

# fmt: off
# Written by benchmarks/fit_exp2.py: every segment tried on all 2^20 fractions.
_VALUES = (
    131072, 133941, 136874, 139873, 142938, 146059, 149261, 152525,
    155870, 159279, 162766, 166339, 169971, 173705, 177498, 181387,
    185355, 189418, 193563, 197802, 202141, 206568, 211081, 215705,
    220425, 225257, 230187, 235227, 240378, 245643, 251026, 256518,
)
_SLOPES = (
    179, 183, 187, 191, 195, 200, 204, 209,
    213, 218, 223, 227, 233, 237, 243, 248,
    254, 259, 265, 271, 276, 282, 289, 295,
    302, 308, 315, 322, 329, 336, 343, 351,
)
# fmt: on


@dataclass(frozen=True)
class Exp2Table:
    """2^f by 32 chords; the same entries serve any number of fraction bits, coarser fractions being a subset of finer ones.

    The mantissa never falls as f rises, is 2^16 for f = 0, and is within 5.8e-5 of 2^f.

    Parameters
    ----------
    frac_bits : int
        Fraction bits of f (``Config.score_frac_bits``), 10 to 20.

    Raises
    ------
    ValueError
        If ``frac_bits`` is not from 10 to 20.
    """

    #: Entry by the top bits of the fraction: 2^f at 17 fraction bits, the final rounding folded in; 18 bits unsigned.
    values: ClassVar[tuple[int, ...]] = _VALUES
    #: Entry by the top bits of the fraction: slope of 2^f at 8 fraction bits; 9 bits unsigned.
    slopes: ClassVar[tuple[int, ...]] = _SLOPES
    INDEX_BITS: ClassVar[int] = 5
    VALUE_BITS: ClassVar[int] = 18
    VALUE_FRAC_BITS: ClassVar[int] = 17
    SLOPE_BITS: ClassVar[int] = 9
    SLOPE_FRAC_BITS: ClassVar[int] = 8
    MANTISSA_BITS: ClassVar[int] = 17

    frac_bits: int

    def __post_init__(self) -> None:
        if not 10 <= self.frac_bits <= 20:
            raise ValueError(f"frac_bits must be from 10 to 20, not {self.frac_bits!r}")

    @property
    def rest_bits(self) -> int:
        """Fraction bits below the table index."""
        return self.frac_bits - self.INDEX_BITS

    def shift(self, align: int) -> int:
        """Right shift that places the aligned product of rest and slope on the values' unit."""
        return align + self.frac_bits + self.SLOPE_FRAC_BITS - self.VALUE_FRAC_BITS

    def model(self, fraction: ArrayLike, align: int = 0) -> NDArray[np.int64]:
        """Mantissa (1.16, 17 bits) of 2^(fraction / 2^frac_bits); ``align`` does not change it."""
        fraction = np.asarray(fraction, np.int64)
        index = fraction >> self.rest_bits
        rest = fraction & (1 << self.rest_bits) - 1
        placed = place(rest * np.array(self.slopes, np.int64)[index], align, self.shift(align))
        return np.array(self.values, np.int64)[index] + placed >> 1


class Weight(NamedTuple):
    """P = mantissa · 2^(-16 - exponent)."""

    #: 17 bits unsigned: 2^16 … 2^17-1, or 0.
    mantissa: NDArray[np.int64]
    #: w, 0 to 63; of a weight of 0 its lowest six bits, which mean nothing.
    exponent: NDArray[np.int64]


def exp2(config: Config, score: ArrayLike, reference: ArrayLike, absolute: bool = False) -> Weight:
    """2^(score - reference), or 2^(-|score| - reference) if ``absolute``: weight of visible scores.

    Masked rows have mantissa 0 instead, which is the caller's business.

    Parameters
    ----------
    score
        ``Config.score_bits`` two's complement, unit 2^-SF.
    reference
        RM', an integer not below any of the scores; broadcasts. Of a score that is above it by 1 or more the weight is 0.
    absolute
        Of the one's complement of scores that are 0 or more, so that 2^-S is too small by a part in 2^SF.
    """
    score = np.asarray(score, np.int64)
    if absolute:
        score = np.where(score < 0, score, ~score)
    frac_bits = config.score_frac_bits
    mantissa = Exp2Table(frac_bits).model(score & (1 << frac_bits) - 1, config.product_align)
    exponent = np.asarray(reference, np.int64) - (score >> frac_bits)
    beyond = (exponent < 0) | (exponent > MAX_WEIGHT_EXPONENT)
    return Weight(np.where(beyond, 0, mantissa), exponent & MAX_WEIGHT_EXPONENT)

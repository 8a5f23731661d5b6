"""Reciprocal of a significand: 256 quadratic segments, two multipliers of at most 18 × 18 bits signed."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["RECIPROCAL", "Reciprocal"]


@dataclass(frozen=True)
class Reciprocal:
    """1/m of m = s / 2^23 in [1, 2) at 24 fraction bits, from 2^23 + 1 to 2^24 - 1; error at most 2^-24.

    Near a segment's middle, with d the distance from it, 1/m ≈ c0 - d · (c1 - c2 · d); the coefficients are the Taylor
    series with its cubic and quartic terms replaced by the lower terms nearest to them over the segment (Chebyshev
    economisation). In integers, step by step, every ``>>`` rounding down:

    1. index = s bits 22 to 15; d = s bits 14 to 0 with the top bit inverted, 15 bits signed (unit 2^-23);
       ``short`` = d >> 5, 10 bits signed.
    2. slope = c1[index] - ((c2[index] · short) >> 13), 17 bits unsigned (unit 2^-17); c2 is 12 bits unsigned.
    3. r = (c0[index] - ((d · slope) >> 14)) >> 2; c0 is 26 bits unsigned (unit 2^-26).

    The constants that centre the roundings are folded into c0 and c1. The first entry is lowered until 1/1 fits 24 bits, so
    that nothing saturates.

    Members
    -------
    c0, c1, c2
        256 table entries each.
    """

    #: Bits of the result and of the significand, leading one included.
    BITS: ClassVar[int] = 24
    INDEX_BITS: ClassVar[int] = 8
    #: Bits of d, signed.
    OFFSET_BITS: ClassVar[int] = 15
    #: Low bits of d that the quadratic term does not see.
    SHORT_DROP: ClassVar[int] = 5
    #: Bits of the tables, unsigned.
    C0_BITS: ClassVar[int] = 26
    C1_BITS: ClassVar[int] = 17
    C2_BITS: ClassVar[int] = 12
    #: Right shift of c2 · short onto the unit of c1: (23 - SHORT_DROP) + C2_BITS - C1_BITS.
    SLOPE_SHIFT: ClassVar[int] = 13
    #: Right shift of d · slope onto the unit of c0: 23 + C1_BITS - C0_BITS.
    PRODUCT_SHIFT: ClassVar[int] = 14
    #: Right shift of the difference: C0_BITS - BITS.
    RESULT_SHIFT: ClassVar[int] = 2

    c0: tuple[int, ...] = field(init=False)
    c1: tuple[int, ...] = field(init=False)
    c2: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        half_width = Fraction(1, 2 << self.INDEX_BITS)
        half = Fraction(1, 2)
        c0, c1, c2 = [], [], []
        for index in range(1 << self.INDEX_BITS):
            inverse = 1 / (1 + (2 * index + 1) * half_width)
            c0.append(round((inverse - half_width**4 / 8 * inverse**5) * 2**self.C0_BITS + 1))
            c1.append(round((inverse**2 + half_width**2 * 3 / 4 * inverse**4) * 2**self.C1_BITS - half))
            c2.append(round((inverse**3 + half_width**2 * inverse**5) * 2**self.C2_BITS))
        edge = 1 << self.OFFSET_BITS - 1
        most = ((1 << self.BITS) - 1 << self.RESULT_SHIFT) + (1 << self.RESULT_SHIFT) - 1
        c0[0] = most + (-edge * (c1[0] - (c2[0] * (-edge >> self.SHORT_DROP) >> self.SLOPE_SHIFT)) >> self.PRODUCT_SHIFT)
        for name, table in (("c0", c0), ("c1", c1), ("c2", c2)):
            object.__setattr__(self, name, tuple(table))

    def model(self, significand: ArrayLike) -> NDArray[np.int64]:
        """Reciprocals of significands from 2^23 to 2^24 - 1."""
        s = np.asarray(significand, np.int64)
        index = s >> self.OFFSET_BITS & (1 << self.INDEX_BITS) - 1
        offset = (s & (1 << self.OFFSET_BITS) - 1) - (1 << self.OFFSET_BITS - 1)
        c0, c1, c2 = (np.array(table, np.int64)[index] for table in (self.c0, self.c1, self.c2))
        slope = c1 - (c2 * (offset >> self.SHORT_DROP) >> self.SLOPE_SHIFT)
        return c0 - (offset * slope >> self.PRODUCT_SHIFT) >> self.RESULT_SHIFT


#: The machine's reciprocal.
RECIPROCAL = Reciprocal()

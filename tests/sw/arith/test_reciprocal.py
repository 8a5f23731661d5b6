import math
from fractions import Fraction

import numpy as np

from fusemax.arith.reciprocal import RECIPROCAL

ALL = np.arange(1 << 23, 1 << 24, dtype=np.int64)


def scalar(significand: int) -> int:
    """The three steps of the contract in exact rationals."""
    index = significand // 2**15 - 256
    offset = significand % 2**15 - 2**14
    slope = RECIPROCAL.c1[index] - math.floor(Fraction(RECIPROCAL.c2[index] * math.floor(Fraction(offset, 32)), 2**13))
    return math.floor(Fraction(RECIPROCAL.c0[index] - math.floor(Fraction(offset * slope, 2**14)), 4))


def test_error_over_all_significands():
    # r is within a unit of 2^47 / s: |r · s - 2^47| ≤ s, in integers.
    reciprocal = RECIPROCAL.model(ALL)
    assert (np.abs(reciprocal * ALL - (1 << 47)) <= ALL).all()
    assert reciprocal.min() == (1 << 23) + 1
    assert reciprocal.max() == (1 << 24) - 1


def test_against_rationals():
    rng = np.random.default_rng(71)
    edges = [(1 << 23) + (i << 15) + j for i in range(256) for j in (0, 1, 31, 32, 0x3FFF, 0x4000, 0x4001, 0x7FFF)]
    significands = np.concatenate([edges, rng.integers(1 << 23, 1 << 24, 100_000)])
    assert RECIPROCAL.model(significands).tolist() == [scalar(s) for s in significands.tolist()]


def test_widths():
    for table, bits in ((RECIPROCAL.c0, 26), (RECIPROCAL.c1, 17), (RECIPROCAL.c2, 12)):
        assert len(table) == 256
        assert 0 <= min(table) and max(table) < 1 << bits
    offset = np.array([-(1 << 14), (1 << 14) - 1])[:, None]
    slope = np.array(RECIPROCAL.c1) - (np.array(RECIPROCAL.c2) * (offset >> 5) >> 13)  # linear: extreme at the ends
    assert slope.min() >= 0 and slope.max() < 1 << 17


def test_shifts_follow_from_the_widths():
    r = RECIPROCAL
    assert r.INDEX_BITS + r.OFFSET_BITS == 23
    assert r.SLOPE_SHIFT == 23 - r.SHORT_DROP + r.C2_BITS - r.C1_BITS
    assert r.PRODUCT_SHIFT == 23 + r.C1_BITS - r.C0_BITS
    assert r.RESULT_SHIFT == r.C0_BITS - r.BITS

import math
from fractions import Fraction

import numpy as np

from fusemax.arith.placement import place, wrap

EDGES = [0, 1, 2, 3, 127, 128, (1 << 25) - 1, 1 << 25, (1 << 26) - 1]


def reference(product: int, align: int, shift: int) -> int:
    shift = shift if 0 <= shift <= 63 else 63
    return math.floor(Fraction(product * 2**align, 2**shift) + Fraction(1, 2))


def check(products: np.ndarray, align: int, shifts: np.ndarray) -> None:
    expected = [reference(p, align, s) for p, s in zip(products.tolist(), shifts.tolist(), strict=True)]
    assert place(products, align, shifts).tolist() == expected


def test_random():
    rng = np.random.default_rng(31)
    for align in range(1, 10):
        check(rng.integers(-(1 << 26), 1 << 26, 12_000), align, rng.integers(-3, 70, 12_000))


def test_every_shift_of_the_edges():
    products, shifts = np.meshgrid([sign * edge for edge in [*EDGES, 1 << 26] for sign in (1, -1)], np.arange(-300, 600))
    check(products.ravel(), 7, shifts.ravel())


def test_ties_go_up():
    assert place(np.array([1, -1, 3, -3]), 1, 2).tolist() == [1, 0, 2, -1]


def test_nothing_is_left_at_63_or_below_0():
    for shift in (63, -1, -300):
        assert not place(np.array([(1 << 26) - 1, -(1 << 26)]), 9, shift).any()


def test_wrap():
    rng = np.random.default_rng(32)
    for bits in (10, 26, 32, 34):
        values = rng.integers(-(1 << 40), 1 << 40, 10_000)
        expected = []
        for value in values.tolist():
            low = value % 2**bits
            expected.append(low - 2**bits if low >= 2 ** (bits - 1) else low)
        assert wrap(values, bits).tolist() == expected

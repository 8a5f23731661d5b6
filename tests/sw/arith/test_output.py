from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith import state as st
from fusemax.arith.output import divide, multiply_reciprocal, state_to_float32
from fusemax.arith.reciprocal import RECIPROCAL
from fusemax.arith.state import StateFloat


def reference(sign: int, exponent: int, significand: int, reciprocal: int, denominator_exponent: int, bits: int) -> int:
    """Output word in exact rationals; ``bits`` of significand."""
    if significand == 0 or denominator_exponent == -512:
        return 0
    value = Fraction(significand * reciprocal, 2**47)
    power = exponent - denominator_exponent
    while value < 1:
        value, power = value * 2, power - 1
    while value >= 2:
        value, power = value / 2, power + 1
    rounded = round(value * 2 ** (bits - 1))  # to nearest even
    if rounded == 2**bits:
        rounded, power = rounded // 2, power + 1
    if power < -126:
        return 0
    word = 255 << bits - 1 if power > 127 else (power + 127 << bits - 1) + rounded - 2 ** (bits - 1)
    return word | sign << bits + 7


def check(numerator: StateFloat, reciprocal: np.ndarray, denominator_exponent: np.ndarray) -> None:
    columns = [np.asarray(column).tolist() for column in (*numerator, reciprocal, denominator_exponent)]
    for float32 in (True, False):
        got = multiply_reciprocal(numerator, reciprocal, denominator_exponent, float32)
        assert got.dtype == (np.uint32 if float32 else np.uint16)
        assert got.tolist() == [reference(*row, 24 if float32 else 8) for row in zip(*columns, strict=True)]


def random_numerator(rng: np.random.Generator, count: int, low: int = -20, high: int = 20) -> StateFloat:
    return StateFloat(rng.integers(0, 2, count), rng.integers(low, high, count), rng.integers(1 << 23, 1 << 24, count))


def test_random():
    rng = np.random.default_rng(81)
    check(random_numerator(rng, 60_000), rng.integers(1 << 23, 1 << 24, 60_000), rng.integers(-5, 15, 60_000))


def test_ties():
    # With a reciprocal of 2^23 and short factors, products end in a half of the last place often.
    rng = np.random.default_rng(82)
    numerator = random_numerator(rng, 20_000)
    check(
        StateFloat(*numerator[:2], (1 << 23) + (rng.integers(0, 1 << 8, 20_000) << 15)),
        np.full(20_000, 1 << 23),
        np.zeros(20_000, np.int64),
    )
    short = StateFloat(*numerator[:2], (1 << 23) + (rng.integers(0, 1 << 12, 20_000) << 11))
    check(short, (1 << 23) + (rng.integers(0, 1 << 13, 20_000) << 10), np.zeros(20_000, np.int64))


def test_ends_of_the_formats():
    exponents = [-512, -511, -150, -128, -127, -126, -125, 0, 126, 127, 128, 129, 140]
    significands = [1 << 23, (1 << 23) + 1, 0xFF0000, 0xFF7FFF, 0xFF8000, 0xFF8001, (1 << 24) - 1]
    reciprocals = [(1 << 23) + 1, 0xC00000, 0xFFFFFE, 0xFFFFFF]
    rows = [
        (sign * (x > -512), x, s * (x > -512), r, d)
        for sign in (0, 1)
        for x in exponents
        for s in significands
        for r in reciprocals
        for d in (-512, -1, 0, 1, 14)
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    check(StateFloat(*columns[:3]), *columns[3:])


@pytest.mark.parametrize("float32", [True, False])
def test_zero_denominator_and_zero_numerator_give_zero(float32: bool):
    numerator = StateFloat(np.array([1, 0, 0]), np.array([100, -512, -512]), np.array([0xFFFFFF, 0, 0]))
    denominator = StateFloat(np.array([0, 0, 0]), np.array([-512, 3, -512]), np.array([0, 1 << 23, 0]))
    assert divide(numerator, denominator, float32).tolist() == [0, 0, 0]


def test_divide():
    rng = np.random.default_rng(83)
    numerator = random_numerator(rng, 100_000)
    denominator = StateFloat(np.zeros(100_000, np.int64), *random_numerator(rng, 100_000, 0, 12)[1:])
    quotient = st.to_float64(numerator) / st.to_float64(denominator)
    got = divide(numerator, denominator, True).view(np.float32)
    assert np.abs(got / quotient - 1).max() <= 4 * 2.0**-23 + 2.0**-24
    # The product of numerator and reciprocal is exact in float64, so one conversion rounds it as the lane does.
    product = st.to_float64(numerator) * RECIPROCAL.model(denominator.significand) * 2.0 ** (-24.0 - denominator.exponent)
    assert np.array_equal(got, product.astype(np.float32))


def test_state_to_float32():
    rng = np.random.default_rng(83)
    state = random_numerator(rng, 20_000, -160, 160)
    with np.errstate(over="ignore", under="ignore"):
        expected = st.to_float64(state).astype(np.float32)
    expected[np.abs(expected) < np.finfo(np.float32).smallest_normal] = 0.0
    got = state_to_float32(state)
    assert got.dtype == np.uint32
    assert np.array_equal(got, expected.view(np.uint32) & np.where(expected == 0, 0, 0xFFFF_FFFF).astype(np.uint32))
    assert state_to_float32(st.zeros(3)).tolist() == [0, 0, 0]

from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith import state as st
from fusemax.arith.state import StateFloat, accumulate, add, normalise


def rounded(numerator: int, exponent: int) -> tuple[int, int, int]:
    """(sign, exponent, significand) of numerator · 2^exponent to 24 bits, in Python integers."""
    magnitude = abs(numerator)
    drop = magnitude.bit_length() - 24
    if magnitude == 0:
        return 0, -512, 0
    if drop <= 0:
        significand = magnitude << -drop
    else:
        significand, rest = divmod(magnitude, 1 << drop)
        if 2 * rest > 1 << drop or (2 * rest == 1 << drop and significand % 2):
            significand += 1
    if significand == 1 << 24:
        significand, drop = 1 << 23, drop + 1
    power = exponent + drop + 23
    return (0, -512, 0) if power < -511 else (int(numerator < 0), power, significand)


def reference(sign: int, exponent: int, significand: int, distance: int, value: int, unit: int) -> tuple[int, int, int]:
    lowest = exponent - 23 - distance
    common = min(lowest, unit)
    signed = -significand if sign else significand
    return rounded((signed << lowest - common) + (value << unit - common), common)


def check(state: StateFloat, distance: np.ndarray, value: np.ndarray, unit: np.ndarray, sum_bits: int = 48) -> StateFloat:
    got = accumulate(state, distance, value, unit, sum_bits)
    columns = (*state, distance, value, unit)
    expected = [reference(*row) for row in zip(*(np.asarray(column).tolist() for column in columns), strict=True)]
    assert list(zip(*(part.tolist() for part in got), strict=True)) == expected
    return got


def random_state(rng: np.random.Generator, count: int, low: int = -60, high: int = 60) -> StateFloat:
    return StateFloat(rng.integers(0, 2, count), rng.integers(low, high, count), rng.integers(1 << 23, 1 << 24, count))


@pytest.mark.parametrize("sum_bits", [28, 36, 48])
def test_random(sum_bits: int):
    rng = np.random.default_rng(61)
    count = 40_000
    value = rng.integers(-(1 << sum_bits - 1), 1 << sum_bits - 1, count) >> rng.integers(0, sum_bits, count)
    check(random_state(rng, count), rng.integers(0, 40, count), value, rng.integers(-80, 40, count), sum_bits)


def test_ties():
    # The sum is half a unit of the last place, or that plus or minus what is left of a far smaller operand.
    rng = np.random.default_rng(62)
    count = 60_000
    state = random_state(rng, count)
    sign = rng.choice([-1, 1], count)
    value = sign * ((np.int64(1) << 40) + rng.integers(-1, 2, count))
    got = check(state, np.zeros(count, np.int64), value, state.exponent - 24 - 40)
    assert (got.significand != state.significand).any() and (got.significand == state.significand).any()


def test_state_far_below_the_sum():
    rng = np.random.default_rng(63)
    count = 40_000
    value = (rng.integers(1 << 23, 1 << 24, count) << 1 | 1) << rng.integers(0, 20, count)  # ties but for the state
    state = random_state(rng, count, -200, -100)
    check(state, rng.integers(0, 256, count), np.where(rng.integers(0, 2, count), -value, value), np.zeros(count, np.int64))


def test_cancellation():
    rng = np.random.default_rng(64)
    count = 60_000
    state = random_state(rng, count)
    signed = np.where(state.sign == 1, -state.significand, state.significand)
    distance = rng.integers(0, 10, count)
    value = -(signed << 8) + rng.integers(-3, 4, count)
    got = check(state, distance, value, state.exponent - distance - 31)
    assert (got.exponent == -512).any()


def test_zeros_and_the_lowest_exponent():
    exponents = [-512, -511, -510, -480, -300, 0, 127, 300]
    rows = [
        (sign if exponent > -512 else 0, exponent, significand if exponent > -512 else 0, distance, value, unit)
        for sign in (0, 1)
        for exponent in exponents
        for significand in (1 << 23, (1 << 24) - 1, 0xABCDEF)
        for distance in (0, 1, 31, 254, 255)
        for value in (0, 1, -1, 3, (1 << 35) - 1, -(1 << 35))
        for unit in (-600, -544, -535, -534, -520, -160, -30, 98)
    ]
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    got = check(StateFloat(*columns[:3]), *columns[3:])
    assert (got.exponent == -512).any() and (got.exponent == -511).any()
    assert not got.sign[got.exponent == -512].any()


def test_normalise():
    rng = np.random.default_rng(65)
    value = np.concatenate(
        [[0, 1, -1, (1 << 35) - 1, -(1 << 35)], rng.integers(-(1 << 35), 1 << 35, 100_000) >> rng.integers(0, 36, 100_000)]
    )
    unit = rng.integers(-160, 100, value.size)
    got = normalise(value, unit, 36)
    for n, u, sign, exponent, significand, zero in zip(
        value.tolist(), unit.tolist(), *(part.tolist() for part in got), strict=True
    ):
        if n == 0:
            assert (sign, exponent, significand, zero) == (0, -512, 0, True)
        else:
            assert 1 << 35 <= significand < 1 << 36 and not zero
            assert Fraction(-significand if sign else significand) * Fraction(2) ** (exponent - 35) == n * Fraction(2) ** u


def test_accumulate_is_normalise_then_add():
    rng = np.random.default_rng(66)
    state = random_state(rng, 1000)
    value = rng.integers(-(1 << 35), 1 << 35, 1000)
    whole = accumulate(state, 3, value, -30, 36)
    parts = add(state, 3, normalise(value, -30, 36), 36)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_pack_and_unpack():
    rng = np.random.default_rng(67)
    state = random_state(rng, 10_000, -511, 512)
    for part, zero in zip(state, st.zeros(100), strict=True):
        part[:100] = zero
    words = st.pack(state)
    assert words.min() >= 0 and words.max() < 1 << 34
    assert all(np.array_equal(a, b) for a, b in zip(st.unpack(words), state, strict=True))
    assert st.pack(StateFloat(np.array(1), np.array(-1), np.array((1 << 23) + 5))) == 1 << 33 | 0x3FF << 23 | 5
    assert st.pack(st.zeros(1))[0] == 0x200 << 23
    assert [part[0] for part in st.unpack([1 << 33 | 0x200 << 23 | 77])] == [0, -512, 0]


def test_to_float64():
    state = StateFloat(np.array([0, 1, 0, 0]), np.array([0, 3, -512, -511]), np.array([1 << 23, 3 << 22, 0, 1 << 23]))
    assert st.to_float64(state).tolist() == [1.0, -12.0, 0.0, 2.0**-511]

import numpy as np
import pytest

from fusemax.arith import state
from fusemax.spec import CONFIGS, Timing
from fusemax_hw.arith.state_add import StateAdd


def states(rng, count, exponents):
    """Significands of all kinds, one in 16 of them zero (with whatever sign and fraction beside it)."""
    kind = rng.integers(0, 4, count)
    random = rng.integers(1 << 23, 1 << 24, count)
    significand = np.select(
        [kind == 0, kind == 1, kind == 2],
        [random, np.full(count, 1 << 23), np.full(count, (1 << 24) - 1)],
        (1 << 23) + (random & 0xF),
    )
    exponent = np.where(rng.integers(0, 16, count) == 0, state.ZERO_EXPONENT, exponents)
    sign = rng.integers(0, 2, count)
    return significand & 0x7FFFFF | (exponent & 0x3FF) << 23 | sign << 33


def sums(rng, count, sum_bits):
    """Sums of every length: random, powers of two, near powers of two."""
    top = 1 << sum_bits - 1
    random = rng.integers(-top, top, count)
    length = rng.integers(0, sum_bits - 1, count)
    power = np.int64(1) << length
    kind = rng.integers(0, 4, count)
    value = np.select(
        [kind == 0, kind == 1, kind == 2],
        [random, random >> length, power],
        power + rng.integers(-2, 3, count),
    )
    value = np.where((kind >= 2) & (rng.integers(0, 2, count) == 1), -value, value)
    return np.clip(value, -top, top - 1)


def operands(rng, count, sum_bits):
    """State words, distances, values and units whose leading ones lie at all distances, most of them near each other."""
    value = sums(rng, count, sum_bits)
    unit = np.where(rng.integers(0, 4, count) == 0, -32, rng.integers(-159, 129, count))
    lead = state.normalise(value, unit, sum_bits).exponent
    distance = np.where(rng.integers(0, 2, count) == 0, rng.integers(0, 256, count), rng.integers(0, 4, count))
    kind = rng.integers(0, 4, count)
    near = lead + distance + rng.integers(-3, 4, count)
    middle = lead + distance + rng.integers(-60, 61, count)
    far = rng.integers(-511, 512, count)
    underflow = distance - 511 + rng.integers(-2, 3, count)
    exponents = np.clip(np.select([kind == 0, kind == 1, kind == 2], [near, middle, far], underflow), -511, 511)
    value = np.where((kind == 3) & (rng.integers(0, 2, count) == 1), 0, value)
    # Exact cancellation, and nearly so: the state is the sum's negative where 24 bits hold it.
    word = states(rng, count, exponents)
    cancel = (rng.integers(0, 8, count) == 0) & (np.abs(value) < 1 << 24) & (value != 0)
    normalised = state.normalise(value, unit, sum_bits)
    opposite = (
        normalised.significand >> sum_bits - 24 & 0x7FFFFF
        | (np.clip(normalised.exponent + distance, -511, 511) & 0x3FF) << 23
        | (1 - normalised.sign) << 33
    )
    word = np.where(cancel, opposite ^ rng.integers(0, 2, count), word)
    # A power of two (or so) and all the ones a sum can have, a few places apart and of opposite signs.
    ones = rng.integers(0, 8, count) == 0
    value = np.where(ones, (1 << sum_bits - 1) - rng.integers(1, 5, count), value)
    exponents = unit + sum_bits - 2 + distance + rng.integers(-2, 5, count)
    word = np.where(ones, 1 << 33 | (exponents & 0x3FF) << 23 | rng.integers(0, 3, count), word)
    return word, distance, value, unit


@pytest.mark.parametrize("sum_bits", [28, 36, 48])
def test_like_the_model(run_unit, sum_bits):
    rng = np.random.default_rng(sum_bits)
    count = 10000 if sum_bits == 36 else 5000
    word, distance, value, unit = operands(rng, count, sum_bits)
    # Zeros, whatever their fraction and sign.
    word = np.where(rng.integers(0, 16, count) == 0, word & ~(0x3FF << 23) | (state.ZERO_EXPONENT & 0x3FF) << 23, word)
    addend = state.normalise(value, unit, sum_bits)
    before = state.unpack(word)
    after = state.add(before, distance, addend, sum_bits)

    got = run_unit(
        StateAdd(sum_bits),
        {
            "state": word,
            "addend.significand": addend.significand,
            "addend.exponent": np.where(addend.zero, rng.integers(-512, 512, count), addend.exponent + distance),
            "addend.sign": addend.sign,
            "addend.zero": addend.zero,
            "distance": distance,
        },
        ("result.fraction", "result.exponent", "result.sign"),
    )
    np.testing.assert_array_equal(got["result.exponent"], after.exponent)
    nonzero = after.exponent != state.ZERO_EXPONENT
    np.testing.assert_array_equal(got["result.fraction"][nonzero], after.significand[nonzero] & 0x7FFFFF)
    np.testing.assert_array_equal(got["result.sign"][nonzero], after.sign[nonzero])
    # The cases are what they should be.
    assert 100 < np.sum(~nonzero) < count // 2
    assert np.sum(after.exponent == -511) > 25
    lost_bits = (before.exponent != state.ZERO_EXPONENT) & ~addend.zero & (before.exponent - distance - addend.exponent > 8)
    assert np.sum(lost_bits & nonzero) > 250


def test_latency_is_the_timetable_s():
    assert StateAdd.latency == Timing(CONFIGS["small"]).adder

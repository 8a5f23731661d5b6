import numpy as np
import pytest

from fusemax.arith import state
from fusemax.spec import CONFIGS, Timing
from fusemax_hw.arith.normalise import Normalise


@pytest.mark.parametrize("sum_bits", [28, 36, 48])
def test_like_the_model(run_unit, sum_bits):
    rng = np.random.default_rng(sum_bits)
    top = 1 << sum_bits - 1
    edges = [0, -top, top - 1, *(sign * ((1 << i) + d) for i in range(sum_bits - 1) for sign in (1, -1) for d in (-1, 0, 1))]
    edges = [value for value in edges if -top <= value < top]
    random = rng.integers(-top, top, 10000) >> rng.integers(0, sum_bits, 10000)
    value = np.concatenate([edges, random])
    unit = rng.integers(-170, 400, len(value))
    model = state.normalise(value, unit, sum_bits)

    got = run_unit(
        Normalise(sum_bits),
        {"value": value, "unit": unit},
        ("normalised.significand", "normalised.exponent", "normalised.sign", "normalised.zero"),
    )
    np.testing.assert_array_equal(got["normalised.zero"], model.zero)
    np.testing.assert_array_equal(got["normalised.significand"], model.significand)
    np.testing.assert_array_equal(got["normalised.sign"], model.sign)
    nonzero = ~model.zero
    np.testing.assert_array_equal(got["normalised.exponent"][nonzero], model.exponent[nonzero])


def test_latency_is_the_timetable_s():
    assert Normalise.latency == Timing(CONFIGS["small"]).normalise

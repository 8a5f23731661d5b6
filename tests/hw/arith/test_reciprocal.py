import numpy as np

from fusemax.arith.reciprocal import RECIPROCAL
from fusemax.spec import CONFIGS, Timing
from fusemax_hw.arith.reciprocal import Reciprocal


def test_like_the_model(run_unit):
    rng = np.random.default_rng(1)
    # Both ends and the middle of every segment, powers of two apart, and random ones.
    base = (1 << 23) + (np.arange(128) << 16)
    significand = np.concatenate(
        [
            base,
            base - 1,
            base + 1,
            base + 31,
            base + 32,
            (1 << 23) + (1 << np.arange(23)),
            rng.integers(1 << 23, 1 << 24, 40000),
        ]
    )
    significand = significand[significand >= 1 << 23]
    exponent = rng.integers(-511, 512, len(significand))
    exponent[::7] = -512
    got = run_unit(
        Reciprocal(),
        {
            "denominator.fraction": significand & 0x7FFFFF,
            "denominator.exponent": exponent,
            "denominator.sign": rng.integers(0, 2, len(significand)),
        },
        ("reciprocal.significand", "reciprocal.exponent", "reciprocal.zero"),
    )
    np.testing.assert_array_equal(got["reciprocal.significand"], RECIPROCAL.model(significand))
    np.testing.assert_array_equal(got["reciprocal.exponent"], exponent)
    np.testing.assert_array_equal(got["reciprocal.zero"], exponent == -512)


def test_latency_is_the_timetable_s():
    assert Reciprocal.latency == Timing(CONFIGS["small"]).reciprocal

"""Linear weights against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith import linear_scale_log2, linear_weight
from fusemax.spec import Config


def machine(bits: int = 16) -> Config:
    return Config(rows=4, columns=4, linear=True, score_frac_bits=bits)


@pytest.mark.parametrize("frac_bits", [10, 11, 12, 13, 16, 20])
def test_weights_are_scores_to_half_a_unit(frac_bits: int) -> None:
    config = machine(frac_bits)
    most = 1 << 17 + config.linear_shift
    rng = np.random.default_rng(frac_bits)
    near = np.arange(-20, 20)
    scores = np.concatenate([rng.integers(-most, most, 2000), near, most + near, -most + near])
    weight = linear_weight(config, scores)
    unit = 1 << config.linear_shift
    for score, mantissa, overflow in zip(scores, weight.mantissa, weight.overflow, strict=True):
        exact = Fraction(int(score), unit)
        fits = -most <= score < most and exact + Fraction(1, 2) < 1 << 17
        assert overflow == (not fits)
        if fits:
            assert -Fraction(1, 2) < int(mantissa) - exact <= Fraction(1, 2)
            value = Fraction(int(mantissa), 1 << 16) / Fraction(2) ** linear_scale_log2(config)
            assert abs(value - Fraction(int(score), 1 << frac_bits)) <= Fraction(unit, 2 << frac_bits)


def test_negative_scores_are_rectified_and_never_out_of_range() -> None:
    weight = linear_weight(machine(), np.array([-(1 << 31), -1, 0, 7, 8, 1 << 21]), rectified=True)
    assert weight.mantissa[:5].tolist() == [0, 0, 0, 0, 1]
    assert weight.overflow.tolist() == [False] * 5 + [True]

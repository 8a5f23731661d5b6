import math
from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith.exp2 import Exp2Table, exp2
from fusemax.spec import CONFIGS, Config

FINEST = 20


def scalar_mantissa(fraction: int, frac_bits: int) -> int:
    """The contract in exact rationals."""
    index, rest = divmod(fraction, 2 ** (frac_bits - 5))
    rise = Fraction(rest, 2**frac_bits) * Fraction(Exp2Table.slopes[index], 256)
    return (Exp2Table.values[index] + math.floor(rise * 2**17 + Fraction(1, 2))) // 2


def test_table_fits_its_widths():
    assert len(Exp2Table.values) == len(Exp2Table.slopes) == 32
    assert 0 <= min(Exp2Table.values) and max(Exp2Table.values) < 1 << 18
    assert 0 <= min(Exp2Table.slopes) and max(Exp2Table.slopes) < 1 << 9


@pytest.mark.parametrize("frac_bits", range(10, 21))
def test_monotone_and_in_range_over_all_fractions(frac_bits: int):
    mantissa = Exp2Table(frac_bits).model(np.arange(1 << frac_bits))
    assert (np.diff(mantissa) >= 0).all()
    assert mantissa[0] == 1 << 16
    assert mantissa[-1] < 1 << 17


def test_error_over_all_fractions():
    fraction = np.arange(1 << FINEST)
    mantissa = Exp2Table(FINEST).model(fraction)
    error = np.abs(mantissa / 65536 / np.exp2(fraction / 2.0**FINEST) - 1).max()
    assert error <= 5.8e-5, error


@pytest.mark.parametrize("frac_bits", [10, 16, 20])
def test_against_rationals(frac_bits: int):
    rng = np.random.default_rng(41)
    edges = np.array([(i << frac_bits - 5) + j for i in range(32) for j in (0, 1, (1 << frac_bits - 5) - 1)])
    fraction = np.concatenate([edges, rng.integers(0, 1 << frac_bits, 40_000)])
    expected = [scalar_mantissa(f, frac_bits) for f in fraction.tolist()]
    assert Exp2Table(frac_bits).model(fraction).tolist() == expected
    for align in (1, 7, 9):
        assert Exp2Table(frac_bits).model(fraction, align).tolist() == expected


@pytest.mark.parametrize(
    "config",
    [CONFIGS["tiny"], CONFIGS["paper"], Config(rows=3, columns=5, score_bits=34, score_frac_bits=20)],
    ids=["tiny", "paper", "fine"],
)
def test_weights(config: Config):
    rng = np.random.default_rng(42)
    sf = config.score_frac_bits
    score = rng.integers(-(1 << sf + 6), 1 << sf + 6, 20_000)
    score[:3] = 0, 1, -1
    reference = [
        math.ceil(Fraction(s, 2**sf)) + int(extra)
        for s, extra in zip(score.tolist(), rng.integers(0, 3, score.size), strict=True)
    ]
    reference[-1000:] = [200] * 1000
    weight = exp2(config, score, np.array(reference))
    for s, r, mantissa, w in zip(score.tolist(), reference, weight.mantissa.tolist(), weight.exponent.tolist(), strict=True):
        distance = r - s // 2**sf
        assert mantissa == (scalar_mantissa(s % 2**sf, sf) if distance <= 63 else 0)
        assert w == distance or not mantissa
        assert 0 <= w <= 63


def test_a_larger_score_never_has_a_smaller_weight():
    config = CONFIGS["tiny"]
    near, far = np.arange(-(3 << 16), 1), np.arange(-(66 << 16), -(61 << 16))
    weight = exp2(config, np.append(far, near), 0)
    assert (np.diff(weight.mantissa * 2.0**-weight.exponent) >= 0).all()
    assert weight.mantissa[-1] == 1 << 16 and weight.exponent[-1] == 0


@pytest.mark.parametrize("frac_bits", [9, 21])
def test_frac_bits_out_of_range(frac_bits: int):
    with pytest.raises(ValueError, match=f"frac_bits must be from 10 to 20, not {frac_bits}"):
        Exp2Table(frac_bits)

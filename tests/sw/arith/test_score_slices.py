"""Slices of a score: as values of a column sum they are the score."""

from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith import SLICES, score_slices, slice_exponent
from fusemax.spec import Config


@pytest.mark.parametrize(("bits", "frac_bits"), [(26, 10), (26, 16), (32, 16), (34, 20)])
def test_slices_add_up_to_the_score(bits: int, frac_bits: int) -> None:
    config = Config(rows=4, columns=4, entropy=True, score_bits=bits, score_frac_bits=frac_bits)
    most = min(1 << bits - 1, 1 << 24 + config.linear_shift)
    scores = np.random.default_rng(bits).integers(-most, most, 2000)
    parts = score_slices(config, scores)
    assert len(parts) == SLICES and all((-256 <= part).all() and (part < 256).all() for part in parts)
    for score, *slices in zip(scores, *parts, strict=True):
        # A value's exponent is 255 - y, its value sig·2^(exponent - 134).
        total = sum(int(part) * Fraction(2) ** (121 - slice_exponent(config, index)) for index, part in enumerate(slices))
        assert 0 <= Fraction(int(score), 1 << frac_bits) - total < Fraction(1 << config.linear_shift, 1 << frac_bits)


@pytest.mark.parametrize("frac_bits", range(10, 21))
def test_two_bits_of_the_exponent_tell_the_slice(frac_bits: int) -> None:
    config = Config(rows=4, columns=4, entropy=True, score_frac_bits=frac_bits)
    exponents = [slice_exponent(config, index) for index in range(SLICES)]
    assert [(exponent >> 7, exponent >> 3 & 1) for exponent in exponents] == [(0, 0), (0, 1), (1, 0)]

"""Products of a weight and a constant as scores, against exact fractions."""

from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith import Score, add_score, add_shift, set_score, set_shift
from fusemax.spec import Config


@pytest.mark.parametrize(("bits", "frac_bits"), [(26, 10), (32, 16), (34, 20)])
def test_products_are_right_to_a_unit(bits: int, frac_bits: int) -> None:
    config = Config(rows=4, columns=4, functions=True, score_bits=bits, score_frac_bits=frac_bits)
    rng = np.random.default_rng(bits)
    for _ in range(2000):
        mantissa, exponent = int(rng.integers(-(1 << 17), 1 << 17)), int(rng.integers(20))
        sig, k = int(rng.integers(-255, 256)), int(rng.integers(-20, 3))
        if add_shift(config, k) < 1:
            continue
        # Two's complement, unit 2^-SF.
        exact = Fraction(mantissa * sig) * Fraction(2) ** (k - 16 - exponent + frac_bits)
        score = int(rng.integers(-(1 << 20), 1 << 20))
        for clipped in (False, True):
            total = add_score(
                config, Score(np.array(score), np.array(False)), mantissa, exponent, sig, add_shift(config, k), clipped
            )
            wanted = (min(score, 0) if clipped else score) + exact
            fits = -(1 << bits - 1) <= round(wanted) < 1 << bits - 1
            assert bool(total.overflow) != fits or abs(abs(wanted) - (1 << bits - 1)) < 1
            if fits and not total.overflow:
                assert -Fraction(1, 2) < int(total.value) - wanted <= Fraction(1, 2)
        made = int(set_score(config, mantissa, exponent, sig, set_shift(config, k)))
        if abs(exact) < (1 << bits - 1) - 1:
            # To half a unit, then down.
            assert -Fraction(3, 4) < made - exact <= Fraction(1, 4)


def test_overflow_stays() -> None:
    config = Config(rows=4, columns=4, functions=True)
    assert add_score(config, Score(np.array(5), np.array(True)), 0, 0, 0, 0).overflow
    assert add_score(config, Score(np.array((1 << 31) - 1), np.array(False)), 1 << 16, 0, 128, 14).overflow


def test_constants_that_have_no_shift() -> None:
    config = Config(rows=4, columns=4, functions=True)
    assert (add_shift(config, 7), set_shift(config, 6), add_shift(config, -120)) == (0, 0, 127)
    with pytest.raises(ValueError, match=r"^k must be from -120 to 7 in a constant sig·2\^k, not 8$"):
        add_shift(config, 8)
    with pytest.raises(ValueError, match="not -122"):
        set_shift(config, -123)

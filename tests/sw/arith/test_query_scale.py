from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith.query_scale import scale_query
from fusemax.spec import CONFIGS, Config

CONFIG = CONFIGS["tiny"]


def reference(q: int, c: int) -> tuple[int, int, bool]:
    """(operand, Eq, overflow) in exact rationals."""
    eq, ec = q >> 7 & 255, c >> 23 & 255
    if eq == 0 or ec == 0:
        return 0, 0, False
    value = Fraction(128 + (q & 127), 128) * Fraction(2**23 + (c & 0x7FFFFF), 2**23)  # in [1, 4)
    exponent = eq + ec - 127
    if value >= 2:
        value, exponent = value / 2, exponent + 1
    operand = round(value * 2**16)  # Fraction rounds to nearest even
    if operand == 2**17:
        operand, exponent = 2**16, exponent + 1
    if exponent <= 0:
        return 0, 0, False
    negative = (q >> 15) ^ (c >> 31)
    return -operand if negative else operand, min(exponent, 254), exponent >= 255


def check(q: np.ndarray, c: np.ndarray) -> None:
    got = scale_query(CONFIG, q, c)
    expected = [reference(a, b) for a, b in zip(q.tolist(), c.tolist(), strict=True)]
    assert got.operand.tolist() == [operand for operand, _, _ in expected]
    assert (CONFIG.query_exponent_bias - got.exponent_word).tolist() == [exponent for _, exponent, _ in expected]
    assert got.overflow.tolist() == [overflow for _, _, overflow in expected]


def test_random_words():
    rng = np.random.default_rng(21)
    check(rng.integers(0, 1 << 16, 100_000).astype(np.uint16), rng.integers(0, 1 << 32, 100_000).astype(np.uint32))


def test_ties_and_carries():
    # With a short c all bits below the 17th are few: ties are frequent.
    rng = np.random.default_rng(22)
    c = (127 << 23) | rng.integers(0, 1 << 13, 40_000) << 10
    c[::2] |= 0x7FFC00  # just below 2: carries to the next power of two
    q = rng.integers(0, 1 << 16, 40_000)
    q[::4] = 0x3F80  # 1.0 times c near 2 rounds up to 2^17
    check(q.astype(np.uint16), c.astype(np.uint32))
    half_up = scale_query(CONFIG, np.uint16(0x3F80), np.uint32(127 << 23 | 0x7FFFC0))
    assert half_up.operand == 1 << 16 and half_up.exponent_word == CONFIG.query_exponent_bias - 128


def test_edges_of_the_exponent():
    words = [
        sign << 15 | exponent << 7 | m
        for sign in (0, 1)
        for exponent in (0, 1, 2, 126, 127, 128, 253, 254, 255)
        for m in (0, 1, 127)
    ]
    factors = [
        sign << 31 | exponent << 23 | m
        for sign in (0, 1)
        for exponent in (0, 1, 2, 126, 127, 128, 254, 255)
        for m in (0, 1, 0x7FFFFF)
    ]
    q, c = np.meshgrid(np.array(words, np.uint16), np.array(factors, np.uint32))
    check(q.ravel(), c.ravel())


def test_zero_has_exponent_zero_and_no_overflow():
    got = scale_query(CONFIG, np.array([0, 0x8000, 0x007F], np.uint16), np.uint32(0x7F7FFFFF))
    assert not got.operand.any() and not got.overflow.any()
    assert (got.exponent_word == CONFIG.query_exponent_bias).all()


@pytest.mark.parametrize("score_bits, frac_bits", [(26, 10), (26, 16), (32, 16), (34, 20), (34, 10)])
def test_words_fit_their_widths(score_bits: int, frac_bits: int):
    config = Config(rows=4, columns=4, score_bits=score_bits, score_frac_bits=frac_bits)
    got = scale_query(config, np.arange(1 << 16).astype(np.uint16), np.float32(1).view(np.uint32))
    assert got.exponent_word.min() >= -256 and got.exponent_word.max() <= 255
    assert np.abs(got.operand).max() < 1 << 17
    assert np.abs(got.operand[got.operand != 0]).min() >= 1 << 16

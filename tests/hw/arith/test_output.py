import numpy as np

from fusemax.arith.output import multiply_reciprocal
from fusemax.arith.state import ZERO_EXPONENT, unpack
from fusemax.spec import CONFIGS, Timing
from fusemax_hw.arith.output import Output


def significands(rng, count):
    """24 bits with a leading one: random, few ones, many ones."""
    kind = rng.integers(0, 4, count)
    random = rng.integers(1 << 23, 1 << 24, count)
    ends = rng.integers(0, 9, count)
    return np.select(
        [kind == 0, kind == 1, kind == 2],
        [random, random & ~((np.int64(1) << ends + 8) - 1), np.full(count, (1 << 24) - 1) - ends],
        (1 << 23) + ends,
    )


def test_like_the_model(run_unit):
    rng = np.random.default_rng(2)
    count = 40000
    fraction = significands(rng, count) & 0x7FFFFF
    reciprocal = significands(rng, count)
    # Ties: the numerator's low half only, and a reciprocal that is a power of two.
    ties = rng.integers(0, 8, count) == 0
    reciprocal = np.where(ties, 1 << 23, reciprocal)
    fraction = np.where(ties & (rng.integers(0, 2, count) == 1), fraction & 0x7F0000 | 0x8000, fraction)

    # Products one unit from a tie: a · b = 2^(n-1) ± 1 modulo 2^n.
    for row in range(0, 4000, 2):
        bits, odd = 24 - row // 4 % 2, int(rng.integers(1 << 23, 1 << 24)) | 1
        other = ((1 << bits - 1) + 1 - row % 4) * pow(odd, -1, 1 << bits) % (1 << bits)
        fraction[row], reciprocal[row] = odd & 0x7FFFFF, other | 1 << 23

    denominator_exponent = rng.integers(-40, 40, count)
    around = np.choose(rng.integers(0, 4, count), [0, -126, 128, -127]) + rng.integers(-3, 4, count)
    exponent = np.where(rng.integers(0, 2, count) == 1, rng.integers(-511, 512, count), denominator_exponent + around)
    exponent = np.where(rng.integers(0, 16, count) == 0, ZERO_EXPONENT, exponent)
    denominator_exponent = np.where(rng.integers(0, 16, count) == 0, ZERO_EXPONENT, denominator_exponent)
    sign = rng.integers(0, 2, count)
    float32 = rng.integers(0, 2, count)

    numerator = unpack(fraction | (exponent & 0x3FF) << 23 | sign << 33)
    zero = denominator_exponent == ZERO_EXPONENT
    model = np.where(
        float32 == 1,
        multiply_reciprocal(numerator, np.where(zero, 0, reciprocal), denominator_exponent, True),
        multiply_reciprocal(numerator, np.where(zero, 0, reciprocal), denominator_exponent, False),
    )
    got = run_unit(
        Output(),
        {
            "numerator.fraction": fraction,
            "numerator.exponent": exponent,
            "numerator.sign": sign,
            "reciprocal.significand": reciprocal,
            "reciprocal.exponent": denominator_exponent,
            "reciprocal.zero": zero,
            "float32": float32,
        },
        ("result",),
    )["result"]
    np.testing.assert_array_equal(got, model)
    assert np.sum(model == 0) > 1000
    for wide, infinity in ((1, 0x7F800000), (0, 0x7F80)):
        assert np.sum((model == infinity) & (float32 == wide)) > 100


def test_latency_is_the_timetable_s():
    assert Output.latency == Timing(CONFIGS["small"]).output

import numpy as np
import pytest

from fusemax.arith import bf16
from fusemax.arith.query_scale import scale_query
from fusemax.spec import CONFIGS, Config
from fusemax_hw.arith.query_scale import QueryScale


def float32_bits(value):
    return int(np.float32(value).view(np.uint32))


@pytest.mark.parametrize(
    "config",
    [CONFIGS["small"], Config(rows=4, columns=4, score_bits=26, score_frac_bits=10)],
    ids=["small", "narrow"],
)
def test_like_the_model(run_unit, config):
    rng = np.random.default_rng(3)
    every = np.arange(1 << 16)
    # Every bfloat16 with the usual scale; random pairs, most of them with exponents near the ends of the range.
    count = 12000
    query = rng.integers(0, 1 << 16, count)
    scale = rng.integers(0, 1 << 32, count)
    target = np.choose(rng.integers(0, 3, count), [0, 255, 127]) + rng.integers(-3, 4, count)
    near = np.clip(target + 127 - (query >> 7 & 0xFF), 0, 255)
    scale = np.where(rng.integers(0, 4, count) > 0, scale & 0x807FFFFF | near << 23, scale)
    scale = np.where(rng.integers(0, 4, count) == 0, scale & ~0x1FFFF, scale)  # ties
    scale = np.where(rng.integers(0, 16, count) == 0, scale | 0x7FFFFF, scale)  # carries
    usual = np.full(len(every), float32_bits(np.log2(np.e) / 8))
    queries = np.concatenate([every[:: 1 if config is CONFIGS["small"] else 9], query])
    scales = np.concatenate([usual[:: 1 if config is CONFIGS["small"] else 9], scale])
    model = scale_query(config, queries, scales)

    got = run_unit(
        QueryScale(config),
        {"query": queries, "scale": scales},
        ("scaled.operand", "scaled.exponent", "overflow", "nonfinite"),
    )
    np.testing.assert_array_equal(got["scaled.operand"], model.operand)
    np.testing.assert_array_equal(got["scaled.exponent"], model.exponent_word)
    np.testing.assert_array_equal(got["overflow"], model.overflow)
    np.testing.assert_array_equal(got["nonfinite"], bf16.is_nonfinite(queries))
    assert np.sum(model.overflow) > 500
    assert np.sum(model.operand == 0) > 500

"""Float64 attention against sums written out, and the error's definition."""

import math

import numpy as np
import pytest

from fusemax.evaluation import exact


def data(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.mark.parametrize("scale", [None, 0.3])
def test_attention_is_the_written_out_sum(scale):
    q, k, v = data((2, 3, 5), 1), data((2, 4, 5), 2), data((2, 4, 6), 3)
    result = exact.attention(q, k, v, scale)
    assert result.shape == (2, 3, 6)
    factor = 1 / math.sqrt(5) if scale is None else scale
    for head in range(2):
        for p in range(3):
            weights = [math.exp(factor * math.fsum(q[head, p] * k[head, m])) for m in range(4)]
            for f in range(6):
                expected = math.fsum(w * x for w, x in zip(weights, v[head, :, f], strict=True)) / math.fsum(weights)
                assert result[head, p, f] == pytest.approx(expected, rel=1e-13)


def test_large_scores_do_not_overflow():
    result = exact.attention(np.full((1, 1), 1e4), np.array([[1e4], [-1e4]]), np.array([[2.0], [3.0]]))
    assert result.tolist() == [[2.0]]


def test_relative_error():
    assert exact.relative_error(np.array([3.0, 5.0], np.float32), np.array([3.0, 4.0])) == pytest.approx(0.2)

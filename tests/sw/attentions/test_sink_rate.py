"""Attention sinks: mean weights of keys in two sweeps, and of one key beside the attention."""

from __future__ import annotations

import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error


@pytest.mark.parametrize("factor", [2, 8])
def test_all_keys(device, qkv, factor: int) -> None:
    """Scores with a standard deviation of 8, too, whose logarithms are large numbers to take off."""
    q, k, _ = qkv(64, leading=(2, 3))
    q = q * factor
    found = fusemax.sink_rate(q, k, epsilon=0.05, device=device)
    expected = exact.column_means(q, k)
    assert found.alpha.shape == (2, 3, 64)
    assert found.out is None
    assert np.abs(found.alpha / expected - 1).max() <= (2e-4 if factor == 2 else 4e-4)
    assert np.abs(found.alpha - expected).max() <= 3e-5
    np.testing.assert_allclose(found.rate, 100 * (expected > 0.05).mean(axis=(0, 1)))
    assert 0 < found.rate.max() <= 100


@pytest.mark.parametrize("key", [0, 5, 255])
def test_one_key(device, qkv, key: int) -> None:
    q, k, v = qkv(256, leading=(3,), peak=4)
    counters: list[fusemax.Counters] = []
    found = fusemax.sink_rate(q, k, v, key=key, device=device, counters=counters)
    expected = exact.column_means(q, k)[..., [key]]
    assert len(counters) == 1
    assert np.abs(found.alpha / expected - 1).max() <= (2e-4 if key else 5e-6)
    weights = exact.softmax_weights(q, k, sees=exact.triangle(256))
    assert found.out is not None
    assert relative_error(found.out, weights @ v.astype(np.float64)) <= 2e-5
    alone = fusemax.sink_rate(q, k, key=key, device=device)
    np.testing.assert_array_equal(alone.alpha, found.alpha)


FUNCTIONS = {
    "sigmoid": lambda s: 1 / (1 + np.exp(-s)),
    "elu1": lambda s: np.maximum(s, 0) + np.exp(np.minimum(s, 0)),
    "identity": np.abs,
}


@pytest.mark.parametrize("key", [None, 0, 3])
@pytest.mark.parametrize(("weights", "bias"), [*((name, 0.0) for name in FUNCTIONS), ("sigmoid", -4.0)])
def test_weights_that_are_not_normalised(device, qkv, weights: str, bias: float, key: int | None) -> None:
    """The proxy of the public code: the size of a weight over the sum of the sizes."""
    q, k, _ = qkv(64, leading=(2, 3), peak=2)
    counters: list[fusemax.Counters] = []
    options = {"key": key, "bias": bias, "epsilon": 0.05, "device": device, "counters": counters}
    found = fusemax.sink_rate(q, k, weights=weights, **options)
    scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) / 8
    sizes = np.tril(FUNCTIONS[weights](scores + bias))
    expected = (sizes / (sizes.sum(axis=-1, keepdims=True) + 1e-8)).sum(axis=-2) / (64 - np.arange(64))
    if key is not None:
        expected = expected[..., [key]]
    # A score as a weight has an error that does not shrink with it, and the last keys are seen by few queries.
    relative = np.abs(found.alpha / expected - 1)
    assert (relative if weights != "identity" else relative * expected).max() <= (2e-4 if weights != "identity" else 3e-6)
    np.testing.assert_array_equal(found.rate, 100 * (expected > 0.05).mean(axis=(0, 1)))
    assert len(counters) == (1 if key is not None else 2) * (1 if weights == "sigmoid" else 2)


def test_features_of_a_kernel(device, qkv) -> None:
    """Features of a kernel with grouped heads: their product is the weight itself."""
    q, k, _ = qkv(30, leading=(4,))
    features = [FUNCTIONS["elu1"](x.astype(np.float64)).astype(q.dtype) for x in (q, k[:2])]
    found = fusemax.sink_rate(*features, weights="identity", device=device)
    products = np.tril(features[0].astype(np.float64) @ np.repeat(features[1], 2, axis=0).astype(np.float64).swapaxes(-1, -2))
    expected = (products / products.sum(axis=-1, keepdims=True)).sum(axis=-2) / (30 - np.arange(30))
    assert np.abs(found.alpha / expected - 1).max() <= 2e-4


def test_grouped_heads_and_scale(device, qkv) -> None:
    q, k, _ = qkv(40, leading=(4,))
    found = fusemax.sink_rate(q, k[:2], scale=0.3, device=device)
    assert np.abs(found.alpha / exact.column_means(q, np.repeat(k[:2], 2, axis=0), 0.3) - 1).max() <= 2e-4


def test_one_token(device, qkv) -> None:
    q, k, _ = qkv(1)
    found = fusemax.sink_rate(q, k, device=device)
    np.testing.assert_allclose(found.alpha, [1.0], rtol=1e-4)
    np.testing.assert_array_equal(found.rate, [100.0])


def test_reference_is_the_cascade(qkv) -> None:
    """The shipped cascade has no mask: the last query sees all keys in both."""
    q, k, _ = (x.astype(np.float64) for x in qkv(9, e=4))
    found = interpret(CASCADES["column_means"], {"Q": q.T, "K": k.T})["CM"]
    np.testing.assert_allclose(found, exact.softmax_weights(q, k, 1.0).mean(axis=0))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"key": 4}, ValueError, "key must be from 0 to 3, or None, not 4"),
        ({"key": True}, ValueError, "key must be from 0 to 3, or None, not True"),
        ({"epsilon": 2}, ValueError, "epsilon must be from 0 to 1, not 2"),
        ({"weights": "cosine"}, ValueError, "weights must be one of softmax, sigmoid, elu1, identity, not 'cosine'"),
        ({"bias": 1.0}, ValueError, "bias must be 0 with weights of 'softmax', not 1.0"),
        (
            {"weights": "elu1", "key": 0, "v": np.zeros((4, 4), np.float32)},
            ValueError,
            "v must be None with weights of 'elu1'",
        ),
        ({"v": np.zeros((4, 4), np.float32)}, ValueError, "v must be None unless key says which key is measured"),
    ],
)
def test_wrong_arguments(qkv, options, error, message) -> None:
    q, k, _ = qkv(4, e=4)
    with pytest.raises(error, match=message):
        fusemax.sink_rate(q, k, **options)

"""Linear attention: the paper's kernels and normalisers, with and without a mask, in chunks and in pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.errors import MissingOptionError
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error
from fusemax.plan.parts import bfloat16

LENGTH = 300


def features(kernel: str, x: np.ndarray, weights: Any = None) -> np.ndarray:
    x = x.astype(np.float64)
    if kernel == "mlp":
        return np.maximum(x @ weights[0], 0) @ weights[1]
    return x if kernel == "identity" else np.maximum(x, 0) + np.exp(np.minimum(x, 0))


def perceptron(heads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    leading = () if heads is None else (heads,)
    first = np.random.default_rng(8).standard_normal((*leading, 64, 96))
    second = np.random.default_rng(9).standard_normal((*leading, 96, 48))
    return bfloat16(first / 8), bfloat16(second / 8)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("normaliser", ["sum", "max1", None])
@pytest.mark.parametrize(("parts", "most"), [(2, 7e-5), (1, 4e-3)])
@pytest.mark.parametrize("kernel", ["elu1", "identity", "mlp"])
def test_error(device, qkv, kernel: str, parts: int, most: float, normaliser: str | None, causal: bool) -> None:
    """Sums of signed weights may be as good as zero; then the quotient is no measure of anything."""
    if kernel != "elu1" and normaliser == "sum":
        normaliser = "max1"
    q, k, v = qkv(LENGTH)
    weights = perceptron() if kernel == "mlp" else None
    out = fusemax.linear_attention(
        q, k, v, kernel=kernel, normaliser=normaliser, causal=causal, parts=parts, weights=weights, device=device
    )
    products = features(kernel, q, weights) @ features(kernel, k, weights).T / 8
    expected = exact.weighted_attention(products, v, normaliser=normaliser, sees=exact.triangle(LENGTH) if causal else None)
    if (kernel, parts) == ("elu1", 1):
        # Positive weights average the rounding of features, and their sum divides out a part of it.
        most = 4e-4 if causal and normaliser == "sum" else 6e-4
    assert relative_error(out, expected) <= most


@pytest.mark.parametrize("length", [128, 255, 256, 300])
def test_chunks(device, qkv, length: int) -> None:
    q, k, v = qkv(length, leading=(2, 2))
    counters: list[fusemax.Counters] = []
    out = fusemax.linear_attention(q, k, v, chunk=128, device=device, counters=counters)
    products = features("elu1", q) @ features("elu1", k).swapaxes(-1, -2)
    assert relative_error(out, exact.weighted_attention(products, v, normaliser="sum", sees=exact.triangle(length))) <= 2e-5
    assert len(counters) == (2 if length < 256 else 4)


def test_weights_of_every_head(device, qkv) -> None:
    q, k, v = qkv(50, leading=(2,))
    weights = perceptron(2)
    out = fusemax.linear_attention(q, k, v, kernel="mlp", normaliser=None, weights=weights, device=device)
    for head in range(2):
        own = weights[0][head], weights[1][head]
        products = features("mlp", q[head], own) @ features("mlp", k[head], own).T / 8
        assert relative_error(out[head], exact.weighted_attention(products, v[head], sees=exact.triangle(50))) <= 7e-5


def test_scores_at_the_limit_of_the_fixed_point(device) -> None:
    """All queries and keys alike: every score is the bound of Cauchy and Schwarz."""
    for sign in (1, -1):
        q = np.full((20, 64), 3.0, np.float32)
        v = np.arange(20 * 4, dtype=np.float32).reshape(20, 4)
        out = fusemax.linear_attention(q, sign * q, v, kernel="identity", normaliser=None, device=device)
        np.testing.assert_allclose(out, sign * 72 * np.cumsum(v, axis=0), rtol=2e-5)


def test_without_a_mask_positive_features_need_no_option(qkv) -> None:
    q, k, v = qkv(60)
    with fusemax.open("model", "base") as plain:
        out = fusemax.linear_attention(q, k, v, causal=False, device=plain)
        with pytest.raises(MissingOptionError, match="identity needs the option linear"):
            fusemax.linear_attention(q, k, v, device=plain)
    expected = exact.weighted_attention(features("elu1", q) @ features("elu1", k).T, v, normaliser="sum")
    assert relative_error(out, expected) <= 2e-5


def test_reference_is_the_cascade(qkv) -> None:
    q, k, v = (x.astype(np.float64) for x in qkv(9, e=4, f=3))
    found = interpret(CASCADES["linear_attention"], {"Q": q.T, "K": k.T, "V": v.T})["AV"].T
    products = features("elu1", q) @ features("elu1", k).T
    np.testing.assert_allclose(found, exact.weighted_attention(products, v, normaliser="sum"))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kernel": "cosine"}, ValueError, "kernel must be one of elu1, identity, mlp, not 'cosine'"),
        ({"normaliser": "softmax"}, ValueError, "normaliser must be one of sum, max1, not 'softmax'"),
        ({"kernel": "mlp"}, ValueError, "weights must be given for 'mlp' and nothing else, not for 'mlp'"),
        (
            {"kernel": "mlp", "weights": (np.ones((3, 2)), np.ones((2, 2)))},
            ValueError,
            "weights must be ",
        ),
        ({"kernel": "mlp", "weights": (1, 2)}, TypeError, "W₁ of weights must be a matrix of numbers"),
    ],
)
def test_wrong_arguments(qkv, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fusemax.linear_attention(*qkv(8, e=4), **options)

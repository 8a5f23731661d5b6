"""Attention whose weights are a function of the score: sigmoid and elu + 1, with biases, masks and scores far from 0."""

from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.errors import MissingOptionError
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def elu1(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0) + np.exp(np.minimum(x, 0))


def scores(q: np.ndarray, k: np.ndarray, scale: float | None = None) -> np.ndarray:
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    return q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) * factor


@pytest.mark.parametrize("bias", [0.0, -np.log(512), -12.0, 3.0])
@pytest.mark.parametrize("normalised", [False, True])
def test_sigmoid(device, qkv, bias: float, normalised: bool) -> None:
    q, k, v = qkv(512)
    out = fusemax.sigmoid_attention(q, k, v, bias=bias, normalised=normalised, device=device)
    assert out.dtype == np.float32
    expected = exact.weighted_attention(sigmoid(scores(q, k) + bias), v, normaliser="sum" if normalised else None)
    assert relative_error(out, expected) <= 7e-5


@pytest.mark.parametrize("window", [None, (20, 0)])
def test_sigmoid_with_masks(device, qkv, window: tuple[int, int] | None) -> None:
    q, k, v = qkv(100, leading=(2,), f=32)
    place = np.arange(100)
    sees = (place[:, None] >= place) & (place[:, None] - place <= (100 if window is None else window[0]))
    for normalised in (False, True):
        out = fusemax.sigmoid_attention(q, k, v, causal=True, window=window, normalised=normalised, device=device)
        normaliser = "sum" if normalised else None
        assert relative_error(out, exact.weighted_attention(sigmoid(scores(q, k)), v, normaliser=normaliser, sees=sees)) <= 9e-5


@pytest.mark.parametrize("function", [fusemax.sigmoid_attention, fusemax.elu_attention])
@pytest.mark.parametrize("normalised", [False, True])
def test_a_query_that_sees_no_key_gives_zeros(device, qkv, function: Callable[..., np.ndarray], normalised: bool) -> None:
    q, k, v = qkv(20, e=16)
    out = function(q, k, v, causal=True, query_offset=-4, normalised=normalised, device=device)
    assert (out[:4] == 0).all()
    assert (out[4:] != 0).any(axis=1).all()


def test_sigmoid_is_relatively_exact_far_below_zero(device, qkv) -> None:
    """Scores of -40 and less: weights of 1e-18 are as exact as those near 1."""
    q, k, v = qkv(64)
    k = (k.astype(np.float32) * 0.1 - 1).astype(k.dtype)
    q = (q.astype(np.float32) * 0.1 + 5).astype(q.dtype)
    s = scores(q, k)
    assert s.max() < -35
    assert relative_error(fusemax.sigmoid_attention(q, k, v, device=device), sigmoid(s) @ v.astype(np.float64)) <= 2e-4


def shifted(qkv, spread: float, mean: float, length: int = 512):
    """Scores with that mean, and about that standard deviation of what each query adds."""
    q, k, v = (x.astype(np.float64) for x in qkv(length))
    both = abs(mean) ** 0.5 / 64**0.25
    return [x.astype(ml_dtypes.bfloat16) for x in (spread * q + both, k + np.sign(mean) * both, v)]


CASES = [(0.1, 0, 1), (1, 0, 1), (1.4, 0, 1), (1, 2, 1), (1, -2, 2), (0.5, -4, 2), (0.5, -8, 2), (3, 0, 2)]


@pytest.mark.parametrize(("spread", "mean", "sweeps"), CASES)
def test_elu(device, qkv, spread: float, mean: float, sweeps: int) -> None:
    """One sweep where it is exact enough, two where it is not, chosen by itself."""
    q, k, v = shifted(qkv, spread, mean)
    expected = elu1(scores(q, k)) @ v.astype(np.float64)
    counters: list[fusemax.Counters] = []
    out = fusemax.elu_attention(q, k, v, device=device, counters=counters)
    assert len(counters) == sweeps
    assert relative_error(out, expected) <= 9e-5
    both = fusemax.elu_attention(q, k, v, form="two", device=device)
    assert relative_error(both, expected) <= 9e-5
    if mean == -4:
        assert relative_error(fusemax.elu_attention(q, k, v, form="one", device=device), expected) > 5e-4


@pytest.mark.parametrize("form", ["one", "two"])
def test_elu_normalised_and_causal(device, qkv, form: str) -> None:
    q, k, v = qkv(200, leading=(2,), f=64)
    out = fusemax.elu_attention(q, k, v, causal=True, normalised=True, form=form, device=device)
    expected = exact.weighted_attention(elu1(scores(q, k)), v, normaliser="sum", sees=exact.triangle(200))
    assert relative_error(out, expected) <= 9e-5


def test_references_are_the_cascades(qkv) -> None:
    q, k, v = (x.astype(np.float64) for x in qkv(9, e=4, f=3))
    inputs = {"Q": q.T, "K": k.T, "V": v.T}
    weights = sigmoid(scores(q, k, 1.0))
    np.testing.assert_allclose(interpret(CASCADES["sigmoid_attention"], inputs)["AV"].T, exact.weighted_attention(weights, v))
    found = interpret(CASCADES["sigmoid_attention_normalized"], inputs)["AV"].T
    np.testing.assert_allclose(found, exact.weighted_attention(weights, v, normaliser="sum"), rtol=1e-6)


@pytest.mark.parametrize("function", [fusemax.sigmoid_attention, fusemax.elu_attention])
def test_the_machine_must_have_the_option(qkv, function: Callable[..., np.ndarray]) -> None:
    with fusemax.open("model", "base") as plain, pytest.raises(MissingOptionError, match="needs the option"):
        function(*qkv(8, e=8), device=plain)


def test_wrong_arguments(qkv) -> None:
    q, k, v = qkv(8, e=8)
    with pytest.raises(TypeError, match=r"sigmoid_attention\(\) got an unexpected keyword argument 'sink'"):
        fusemax.sigmoid_attention(q, k, v, sink=[1.0])
    with pytest.raises(ValueError, match="form must be one of auto, one, two, not 'three'"):
        fusemax.elu_attention(q, k, v, form="three")
    with pytest.raises(ValueError, match="form must be 'two' or 'auto' for scores that may be above 20"):
        fusemax.elu_attention(q, k, v, form="one", scale=50)

"""Entropy of weights: every query's, with masks and temperatures, the bins of heads, and the regulariser in both forms."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error
from fusemax.plan.array import DEFAULT


@pytest.fixture(params=["keys as values", "sums of scores"])
def device(request) -> Iterator[fusemax.Device]:
    """A machine without the option and one with it."""
    with fusemax.open("model", "base" if request.param == "keys as values" else DEFAULT, memory_bytes=1 << 26) as opened:
        yield opened


@pytest.mark.parametrize("deviation", [0.1, 1.0, 4.0, 12.0])
def test_error(device, qkv, deviation: float) -> None:
    q, k, v = qkv(512)
    q = (q[:128].astype(np.float32) * deviation).astype(q.dtype)
    counters: list[fusemax.Counters] = []
    found = fusemax.attention_entropy(q, k, v, device=device, counters=counters)
    assert len(counters) == 1
    assert np.abs(found.entropy - exact.entropy(q, k)).max() <= 2e-4
    weights = exact.softmax_weights(q, k)
    assert relative_error(found.out, weights @ v.astype(np.float64)) <= 1e-4
    # The public code's 1e-9 inside the logarithm is within a billionth per key.
    code = -(weights * np.log(weights + 1e-9)).sum(-1)
    assert np.abs(code - exact.entropy(q, k)).max() <= 512e-9


def test_causal_window_and_temperature(device, qkv) -> None:
    q, k, v = qkv(100, leading=(2,), f=32)
    temperature = np.linspace(0.5, 4, 100)
    found = fusemax.attention_entropy(q, k, v, causal=True, window=(30, 0), temperature=temperature, device=device)
    place = np.arange(100)
    sees = (place[:, None] >= place) & (place[:, None] - place <= 30)
    scaled = q.astype(np.float64) / temperature[:, None]
    np.testing.assert_allclose(found.entropy, exact.entropy(scaled, k, 1 / 8, sees), atol=2e-4)
    assert found.out.shape == (2, 100, 32)
    # The first query sees one key.
    assert np.abs(found.entropy[:, 0]).max() <= 2e-4


def test_a_query_that_sees_no_key_has_no_entropy(device, qkv) -> None:
    q, k, v = qkv(8, e=16)
    found = fusemax.attention_entropy(q, k, v, causal=True, query_offset=-3, device=device)
    assert (found.entropy[:3] == 0).all()
    assert (found.out[:3] == 0).all()
    assert (found.lse[:3] == -np.inf).all()
    assert np.isfinite(found.entropy).all()


def test_uniform_weights(device, qkv) -> None:
    _, k, v = qkv(64)
    found = fusemax.attention_entropy(np.zeros((3, 64), np.float32), k.astype(np.float32), v.astype(np.float32), device=device)
    np.testing.assert_allclose(found.entropy, math.log(64), atol=1e-4)


def test_values_and_slices_that_do_not_fit_beside_each_other(qkv) -> None:
    q, k, v = qkv(40, f=126)
    counters: list[fusemax.Counters] = []
    found = fusemax.attention_entropy(q, k, v, counters=counters)
    assert len(counters) == 2
    assert np.abs(found.entropy - exact.entropy(q, k)).max() <= 2e-4


def test_head_dims_that_need_two_sweeps(qkv) -> None:
    q, k, v = qkv(40)
    counters: list[fusemax.Counters] = []
    with fusemax.open("model", "small") as small:
        found = fusemax.attention_entropy(q, k, v, device=small, counters=counters)
    assert len(counters) == 2
    assert np.abs(found.entropy - exact.entropy(q, k)).max() <= 2e-4


def test_reference_is_the_cascade(qkv) -> None:
    q, k, _ = (x.astype(np.float64) for x in qkv(9, e=4))
    found = interpret(CASCADES["entropy_naive"], {"Q": q.T, "K": k.T})["H"]
    np.testing.assert_allclose(found, exact.entropy(q, k, 1.0))


def test_bins() -> None:
    np.testing.assert_allclose(fusemax.entropy_bins([[4.0, 3.0], [0.5, 1.0]]), [0.25, 0.25, 0, 0.5])
    np.testing.assert_array_equal(fusemax.entropy_bins([0.0, 0.0]), [1, 0, 0, 0])
    with pytest.raises(ValueError, match="entropies must be finite, and at least one"):
        fusemax.entropy_bins([])


def test_penalty() -> None:
    """By hand: two layers of one head, two queries, log 2 as the largest entropy."""
    largest = math.log(2)
    entropy = largest * np.array([[[[1.0, 0.0]]], [[[0.5, 0.5]]]])
    # Means are 0.5 in both layers: no deviation from 0.5, and 0.4 from 0.9, for the layer that has it.
    assert fusemax.entropy_penalty(entropy, [[0.5], [0.5]]) == 0
    assert fusemax.entropy_penalty(entropy, [[0.5], [0.9]]) == pytest.approx((0.4 * largest) ** 2 / 2)
    # Within the tolerance it does not count.
    assert fusemax.entropy_penalty(entropy, [[0.5], [0.6]]) == 0
    assert fusemax.entropy_penalty(entropy, [[0.5], [0.6]], gamma=0.05) == pytest.approx((0.1 * largest) ** 2 / 2)
    # The code sums over queries before it averages: two deviations of 0.5 in one layer, none in the other.
    assert fusemax.entropy_penalty(entropy, [0.5], form="code") == pytest.approx(2 * (0.5 * largest) ** 2 / 2)
    # The largest entropy may be that of a longer context.
    assert fusemax.entropy_penalty(entropy, [[0.5], [0.5]], keys=4) == pytest.approx((0.5 * largest) ** 2)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (np.zeros((1, 1, 1)), [0.5]),
            {},
            ValueError,
            r"entropy must be of shape \(layers, batch, heads, T\)",
        ),
        ((np.zeros((1, 1, 1, 2)), [0.5]), {}, ValueError, r"theta must be of shape \(1, 1\), not \(1,\)"),
        ((np.zeros((1, 1, 1, 2)), "a"), {}, TypeError, "theta must be an array of numbers, not 'a'"),
        ((np.zeros((1, 1, 1, 2)), [0.5]), {"form": "both"}, ValueError, "form must be one of paper, code, not 'both'"),
    ],
)
def test_wrong_penalties(arguments, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fusemax.entropy_penalty(*arguments, **options)


def test_wrong_option(qkv) -> None:
    with pytest.raises(TypeError, match=r"attention_entropy\(\) got an unexpected keyword argument 'alibi_slopes'"):
        fusemax.attention_entropy(*qkv(4, e=4), alibi_slopes=[1.0])

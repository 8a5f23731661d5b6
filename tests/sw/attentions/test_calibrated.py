"""ACT: sinks that are found, spared and turned down, few and many, and rows that have nearly all weight on them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error

E = 64


def with_sinks(length: int, places: list[int], strength: float = 8.0, seed: int = 0) -> list[Any]:
    """Queries that have a direction in common, and keys at some places that do too."""
    random = np.random.default_rng(seed)
    q, k, v = (random.standard_normal((length, E)) for _ in range(3))
    direction = random.standard_normal(E)
    direction /= np.linalg.norm(direction)
    q += 8 * direction
    k[places] += strength * direction
    return [x.astype(ml_dtypes.bfloat16) for x in (q, k, v)]


@pytest.mark.parametrize("form", ["factored", "masked", "auto"])
@pytest.mark.parametrize("strength", [8.0, 16.0])
def test_error(device, form: str, strength: float) -> None:
    q, k, v = with_sinks(512, [0, 64, 170], strength)
    expected, sinks, share = exact.calibrated_attention(q, k, v)
    assert sinks == [64, 170]
    assert share.max() > (0.99 if strength == 8.0 else 0.999)
    out = fusemax.calibrated_attention(q, k, v, form=form, device=device)
    assert relative_error(out, expected) <= (2e-5 if form == "factored" else 1e-5 if strength > 8 else 1.5e-5)
    rows = np.linalg.norm(out - expected, axis=1) / np.linalg.norm(expected, axis=1)
    assert rows.max() <= (2.5e-4 if form == "factored" else 7e-5)


def test_masked_where_the_share_is_large(device) -> None:
    """``auto`` takes the sweep without sinks for heads whose rows have nearly all weight on sinks, and only for them."""
    heads = [with_sinks(256, [0, 32, 85], strength) for strength in (5.5, 16.0)]
    q, k, v = (np.stack(arrays) for arrays in zip(*heads, strict=True))
    shares = [exact.calibrated_attention(*head)[2].max() for head in heads]
    assert shares[0] < 0.99 < shares[1]
    counters: list[fusemax.Counters] = []
    out = fusemax.calibrated_attention(q, k, v, device=device, counters=counters)
    assert len(counters) == 4
    # The last sweep is of one head.
    assert counters[3].tiles * 2 == counters[0].tiles
    for head, found in zip(heads, out, strict=True):
        assert relative_error(found, exact.calibrated_attention(*head)[0]) <= 2e-5


@pytest.mark.parametrize(("threshold", "count"), [(1.0, 0), (0.5, 0), (0.1, 1), (0.02, 2)])
def test_numbers_of_sinks(device, threshold: float, count: int) -> None:
    q, k, v = with_sinks(160, [3, 20, 53])
    expected, sinks, _ = exact.calibrated_attention(q, k, v, threshold=threshold)
    assert len(sinks) == count
    counters: list[fusemax.Counters] = []
    out = fusemax.calibrated_attention(q, k, v, threshold=threshold, form="factored", device=device, counters=counters)
    assert relative_error(out, expected) <= 2e-5
    assert len(counters) == 2 + (len(sinks) > 0)


def test_one_sink_is_the_first_that_is_found(device) -> None:
    """The first sink is spared, whichever key it is."""
    q, k, v = with_sinks(128, [40], 12.0)
    means = exact.column_means(q, k)
    threshold = float(np.sort(means)[-2] + means.max()) / 2
    expected, sinks, _ = exact.calibrated_attention(q, k, v, threshold=threshold)
    assert sinks == []
    counters: list[fusemax.Counters] = []
    out = fusemax.calibrated_attention(q, k, v, threshold=threshold, device=device, counters=counters)
    assert relative_error(out, expected) <= 2e-5
    assert len(counters) == 2


@pytest.mark.parametrize("form", ["factored", "masked"])
def test_more_sinks_than_fit_beside_the_queries(device, form: str) -> None:
    """64 contraction elements hide sinks; with more sinks there are more sweeps."""
    q, k, v = with_sinks(200, [0, 50, 60])
    means = np.sort(exact.column_means(q, k))[-110:-80]
    gap = np.argmax(np.diff(means))
    threshold = float(means[gap : gap + 2].mean())
    expected, sinks, _ = exact.calibrated_attention(q, k, v, threshold=threshold)
    assert len(sinks) > 64
    counters: list[fusemax.Counters] = []
    out = fusemax.calibrated_attention(q, k, v, threshold=threshold, form=form, device=device, counters=counters)
    assert relative_error(out, expected) <= 2e-5
    assert len(counters) == 4 if form == "factored" else 5


@pytest.mark.parametrize("scale", [1 / 8, -1 / 8, 1e-3])
def test_scales(device, scale: float) -> None:
    q, k, v = with_sinks(96, [0, 20, 40])
    if scale < 0:
        q = -q
    threshold = 0.1 if abs(scale) > 1e-2 else 0.011
    expected, sinks, _ = exact.calibrated_attention(q, k, v, scale=scale, threshold=threshold)
    assert sinks
    for form in ("factored", "masked"):
        out = fusemax.calibrated_attention(q, k, v, scale=scale, threshold=threshold, form=form, device=device)
        assert relative_error(out, expected) <= 2e-5


def test_a_row_with_all_its_weight_on_a_sink(device) -> None:
    """Scores of hundreds: nothing is left of the other keys but what the sweep without the sink gives."""
    q, k, v = with_sinks(96, [0, 20, 40])
    expected, sinks, share = exact.calibrated_attention(q, k, v, scale=3.0)
    assert sinks == [20]
    assert share.max() == 1
    for form in ("masked", "auto"):
        out = fusemax.calibrated_attention(q, k, v, scale=3.0, form=form, device=device)
        assert relative_error(out, expected) <= 1e-5


def test_some_heads(device) -> None:
    q, k, v = (np.stack([x] * 3)[None] for x in with_sinks(80, [0, 20, 40]))
    out = fusemax.calibrated_attention(q, k, v, heads=[1], device=device)[0]
    plain = fusemax.attention(q, k, v, causal=True, out_dtype="float32", device=device)[0]
    np.testing.assert_allclose(out[[0, 2]], plain[[0, 2]], rtol=3e-5, atol=1e-6)
    assert relative_error(out[1], exact.calibrated_attention(q[0, 1], k[0, 1], v[0, 1])[0]) <= 2e-5
    assert relative_error(plain[1], out[1].astype(np.float64)) > 0.1
    none = fusemax.calibrated_attention(q, k, v, heads=[], device=device)[0]
    np.testing.assert_allclose(none, plain, rtol=3e-5, atol=1e-6)


def test_grouped_heads(device) -> None:
    q, k, v = with_sinks(64, [0, 10, 30])
    many = np.stack([q, q * 0.5])
    out = fusemax.calibrated_attention(many, k[None], v[None], device=device)
    for head in range(2):
        assert relative_error(out[head], exact.calibrated_attention(many[head], k, v)[0]) <= 2e-5


def test_reference_is_the_cascade() -> None:
    """The shipped cascade has no causal mask; without one both are the same formula."""
    random = np.random.default_rng(5)
    q, k, v = (random.standard_normal((8, 4)) for _ in range(3))
    weights = exact.softmax_weights(q, k, 1.0)
    found = interpret(CASCADES["calibration"], {"Q": q.T, "K": k.T, "V": v.T})
    np.testing.assert_allclose(found["A"].T, weights)
    sinks = found["S"] > 0
    share = weights[:, sinks].sum(1)
    calibrated = np.where(sinks, 0.4 * weights, weights * (1 + 0.6 * share / (1 - share))[:, None])
    np.testing.assert_allclose(found["AV"].T, calibrated @ v)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"form": "fast"}, ValueError, "form must be one of auto, factored, masked, not 'fast'"),
        ({"beta": 1.5}, ValueError, r"beta must be from 0 to 1, not 1\.5"),
        ({"threshold": "0.1"}, TypeError, r"threshold must be a number, not '0\.1'"),
        ({"heads": [2]}, ValueError, "heads must be numbers from 0 to 1, not 2"),
        ({"scale": 0}, ValueError, "scale must be finite and other than zero, not 0"),
    ],
)
def test_wrong_arguments(qkv, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fusemax.calibrated_attention(*qkv(4, e=4, leading=(2,)), **options)


def test_decoding_is_refused(qkv) -> None:
    q, k, v = qkv(8, e=4)
    with pytest.raises(ValueError, match="there must be as many queries as keys, not 1 and 8"):
        fusemax.calibrated_attention(q[:1], k, v)


def test_no_room_for_the_logarithms(qkv) -> None:
    with fusemax.open("model", "tiny") as tiny, pytest.raises(ValueError, match="q and k must be at most 64 on 'tiny', not 67"):
        fusemax.calibrated_attention(*qkv(8), device=tiny)

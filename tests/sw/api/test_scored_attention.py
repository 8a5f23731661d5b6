"""Capped scores, and scores and weights as results: against float64, with every other option, and bit for bit isolated."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from attention_reference import reference, visible_keys

import fusemax
from fusemax.api import scored_attention
from fusemax.api.scored_attention import ScoredAttention
from fusemax.evaluation.exact import relative_error
from fusemax.plan.array import Array
from fusemax.runtime.request import Request
from fusemax.runtime.score_options import PairTerms, ScoreOptions

#: Signed weights make scores of queries as they are; without them it takes logarithms.
MACHINES = {"linear": replace(fusemax.CONFIGS["base"], name="base_linear", linear=True), "plain": fusemax.CONFIGS["base"]}


@pytest.fixture(scope="module", params=MACHINES)
def device(request: pytest.FixtureRequest) -> Iterator[fusemax.Device]:
    with fusemax.open("model", MACHINES[request.param], memory_bytes=1 << 26) as opened:
        yield opened


@pytest.fixture(scope="module")
def linear() -> Iterator[fusemax.Device]:
    with fusemax.open("model", MACHINES["linear"], memory_bytes=1 << 26) as opened:
        yield opened


def random(seed: int, *shape: int, spread: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(ml_dtypes.bfloat16)


def qkv(q: tuple[int, ...], k: tuple[int, ...], f: int, spread: float = 1.0) -> list[np.ndarray]:
    """Scores have a standard deviation of ``spread``."""
    return [random(0, *q, spread=spread), random(1, *k), random(2, *k[:-1], f)]


def exact(q: np.ndarray, k: np.ndarray, softcap: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Scores in front of the cap and behind it, (..., P, M)."""
    shared = np.repeat(k, q.shape[-3] // k.shape[-3], axis=-3) if q.ndim > 2 else k
    raw = q.astype(np.float64) @ shared.astype(np.float64).swapaxes(-1, -2) * q.shape[-1] ** -0.5
    return raw, softcap * np.tanh(raw / softcap) if softcap else raw


@pytest.mark.parametrize("softcap", [30.0, 50.0])
@pytest.mark.parametrize("spread", [1, 12, 100])
def test_error(device, spread: float, softcap: float) -> None:
    """Scores from far below the cap to far above it, and beyond what a score of the machine can be."""
    q, k, v = qkv((2, 128, 64), (2, 256, 64), 64, spread)
    out = fusemax.attention(q, k, v, device=device, softcap=softcap, out_dtype="float32")
    assert relative_error(out, reference(q, k, v, softcap=softcap).out) <= 2e-5


def random_call(seed: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Shapes, and every option about masks, scores and states, each now and then."""
    rng = np.random.default_rng((7, seed))
    batch, key_heads, share = (int(n) for n in rng.integers(1, 3, 3))
    queries, keys, e, f = int(rng.integers(1, 40)), int(rng.integers(1, 70)), int(rng.integers(1, 33)), int(rng.integers(1, 20))
    q = random(seed, batch, key_heads * share, queries, e, spread=float(rng.choice([1, 8])))
    k, v = random(seed + 1, batch, key_heads, keys, e), random(seed + 2, batch, key_heads, keys, f)
    heads = key_heads * share
    choices: dict[str, Any] = {
        "causal": True,
        "window": (int(rng.integers(-1, 12)), int(rng.integers(-1, 12))),
        "query_offset": rng.integers(-9, 30, batch),
        "key_lengths": rng.integers(0, keys + 1, batch),
        "key_start": rng.integers(0, keys + 1, batch),
        "prefix": rng.integers(0, 12, batch),
        "temperature": rng.uniform(0.5, 2, (queries,)),
        "alibi_slopes": rng.uniform(-0.3, 0.3, heads),
        "sink": rng.standard_normal(heads),
        "scale": rng.uniform(0.1, 0.4, heads),
        "state": fusemax.State(
            *(rng.standard_normal(s).astype(np.float32) for s in ((batch, heads, queries),)),
            rng.uniform(0.5, 2, (batch, heads, queries)).astype(np.float32),
            rng.standard_normal((batch, heads, queries, f)).astype(np.float32),
        ),
    }
    return [q, k, v], {name: value for name, value in choices.items() if rng.random() < 0.35}


@pytest.mark.parametrize("seed", range(24))
def test_with_all_other_options(linear, seed: int) -> None:
    arrays, options = random_call(seed)
    softcap = (5.0, 30.0)[seed % 2]
    out, lse, state, weights, scores = fusemax.attention(
        *arrays,
        device=linear,
        softcap=softcap,
        out_dtype="float32",
        return_lse=True,
        return_state=True,
        return_weights=True,
        return_scores="masked",
        **options,
    )
    given = options | ({"state": (s.max, s.denominator, s.numerator)} if (s := options.get("state")) is not None else {})
    expected = reference(*arrays, softcap=softcap, **given)
    assert (np.abs(out - expected.out) <= 1e-4 * np.maximum(expected.largest_value, 1e-3)).all()
    seen = np.isfinite(expected.lse)
    assert (np.isfinite(lse) == seen).all()
    assert np.abs(lse[seen] - expected.lse[seen]).max(initial=0) <= 1e-4
    np.testing.assert_array_equal(state.output(), out)
    # Weights are those of the scores, of which what came before the keys has a part too.
    before = reference(*arrays, softcap=softcap, **(given | {"key_lengths": 0})).lse
    total = np.logaddexp(before, np.logaddexp.reduce(scores.astype(np.float64), axis=-1))
    np.testing.assert_allclose(weights, np.exp(scores - np.where(seen, total, 0)[..., None]), atol=1e-6)
    share = arrays[0].shape[1] // arrays[1].shape[1]
    if not {"state", "sink"} & set(options):
        values = np.repeat(arrays[2], share, axis=1).astype(np.float64)
        assert relative_error(weights @ values, expected.out) <= 1e-4 if expected.out.any() else not weights.any()


@pytest.mark.parametrize("seed", range(10))
def test_which_pairs_are_seen(linear, seed: int) -> None:
    arrays, options = random_call(100 + seed)
    options = {name: value for name, value in options.items() if name not in ("state", "sink")}
    _, scores = fusemax.attention(*arrays, device=linear, return_scores="masked", **options)
    batch, _, queries, _ = arrays[0].shape
    keys = arrays[1].shape[2]
    given = {name: np.broadcast_to(options.get(name, default), batch) for name, default in (
        ("query_offset", 0), ("key_lengths", keys), ("prefix", 0), ("key_start", 0),
    )}  # fmt: skip
    for b, i in np.ndindex(batch, queries):
        expected = visible_keys(
            i + given["query_offset"][b],
            keys,
            options.get("window"),
            options.get("causal", False),
            given["key_lengths"][b],
            given["prefix"][b],
            given["key_start"][b],
        )
        assert (np.isfinite(scores[b, :, i]) == expected).all()


@pytest.mark.parametrize("softcap", [None, 4.0])
def test_scores_and_weights(device, softcap: float | None) -> None:
    """More keys than one sweep has columns, queries that share keys, and all modes."""
    q, k, v = qkv((2, 4, 20, 32), (2, 2, 300, 32), 16, spread=3)
    raw, capped = exact(q, k, softcap or 0.0)
    triangle = np.arange(300) <= np.arange(20)[:, None] + 100
    masked = np.where(triangle, capped, -np.inf)
    weights = np.exp(masked - masked.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    options = {"device": device, "softcap": softcap, "causal": True, "query_offset": 100}
    plain = fusemax.attention(q, k, v, **options)
    for mode, expected in (("raw", raw), ("capped", capped), ("masked", masked)):
        out, found, scores = fusemax.attention(q, k, v, return_weights=True, return_scores=mode, **options)
        np.testing.assert_array_equal(out.view(np.uint16), plain.view(np.uint16))
        assert scores.dtype == found.dtype == np.float32
        assert scores.shape == found.shape == (2, 4, 20, 300)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(np.isfinite(scores), finite)
        assert relative_error(scores[finite], expected[finite]) <= 1e-5
        assert relative_error(found, weights) <= 2e-5


def test_a_sink_takes_its_part_of_the_weights(linear) -> None:
    q, k, v = qkv((2, 9, 16), (2, 30, 16), 8)
    sink = np.array([1.0, 3.0])
    _, lse, weights = fusemax.attention(q, k, v, device=linear, sink=sink, return_lse=True, return_weights=True)
    rest = np.exp(sink[:, None] - lse.astype(np.float64))
    np.testing.assert_allclose(weights.sum(axis=-1), 1 - rest, rtol=1e-4)
    assert (rest > 0.01).all()


def test_axes_and_no_device() -> None:
    """One head without an axis for it; a model device is opened that has what it takes."""
    q, k, v = qkv((7, 16), (11, 16), 5)
    out, weights, scores = fusemax.attention(q, k, v, softcap=20, return_weights=True, return_scores="raw", out_dtype="float32")
    assert (out.shape, weights.shape, scores.shape) == ((7, 5), (7, 11), (7, 11))
    assert relative_error(out, reference(q, k, v, softcap=20).out) <= 2e-5
    assert relative_error(scores, exact(q, k)[0]) <= 1e-5


def test_no_cap(linear) -> None:
    q, k, v = qkv((7, 16), (11, 16), 5)
    plain = fusemax.attention(q, k, v, device=linear)
    for softcap in (0, 0.0, None):
        np.testing.assert_array_equal(fusemax.attention(q, k, v, device=linear, softcap=softcap), plain)


def test_sweeps_and_their_counters(linear) -> None:
    q, k, v = qkv((2, 64, 64), (2, 300, 64), 64)
    counters: list[fusemax.Counters] = []
    fusemax.attention(q, k, v, device=linear, counters=counters)
    assert len(counters) == 1
    fusemax.attention(q, k, v, device=linear, softcap=50, counters=counters)
    # 300 columns of scores in three sweeps, and the values in one.
    assert len(counters) == 1 + 3 + 1
    assert counters[-1] == linear.counters


# -- isolation ---------------------------------------------------------------------------------------------------


def bits(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint32)


@pytest.mark.parametrize("where", ["window", "terms"])
def test_what_a_query_does_not_see_has_no_influence(device, where: str) -> None:
    """Numbers near the largest that there are, and NaN behind a sequence's end, leave every bit as it is."""
    q, k, v = qkv((2, 2, 40, 16), (2, 2, 50, 16), 8, spread=6)
    poisoned = [k.copy(), v.copy()]
    if where == "window":
        options: dict[str, Any] = {"causal": True, "query_offset": -3, "key_lengths": [40, 21]}
        for array in poisoned:
            array[0, :, 37:40] = 3e38
            array[0, :, 40:] = np.nan
            array[1, :, 21:] = -np.inf
        results = [
            fusemax.attention(q, *kv, device=device, softcap=9, out_dtype="float32", **options) for kv in ([k, v], poisoned)
        ]
    else:
        # Every third key is hidden from all, and each query sees no key of its own tile.
        mask = np.ones((40, 50), bool)
        mask[:, ::3] = False
        mask[np.arange(40)[:, None] // 16 == np.arange(50) // 16] = False
        for array in poisoned:
            array[:, :, ::3] = 3e38
        results = [capped(device, q, *kv, mask=mask) for kv in ([k, v], poisoned)]
    np.testing.assert_array_equal(bits(results[0]), bits(results[1]))
    assert np.isfinite(results[0]).all() and results[0].any()


def capped(device: fusemax.Device, q: np.ndarray, k: np.ndarray, v: np.ndarray, **terms: Any) -> np.ndarray:
    """Output with a cap of 9 and with masks and biases of pairs."""
    request = Request.of(q, k, v, {"out_dtype": "float32"})
    pairs = PairTerms.of(terms, request.leading, request.queries, request.keys)
    found = ScoredAttention(Array(device), request, pairs, ScoreOptions(softcap=9.0)).run(q, k, v)
    return found["state"].output()


@pytest.mark.parametrize("softcap", [None, 9.0])
def test_a_prompt_in_chunks_and_alone_has_the_bits_that_it_has_together(device, monkeypatch, softcap: float | None) -> None:
    q, k, v = qkv((2, 2, 45, 16), (2, 2, 60, 16), 8, spread=6)
    options: dict[str, Any] = {"device": device, "causal": True, "out_dtype": "float32", "softcap": softcap}
    names = {"return_weights": True, "return_scores": "masked"}
    whole = fusemax.attention(q, k, v, query_offset=15, **options, **names)
    for start, stop in ((0, 1), (1, 30), (30, 45)):
        part = fusemax.attention(q[:, :, start:stop], k, v, query_offset=15 + start, **options, **names)
        for one, other in zip(part, whole, strict=True):
            np.testing.assert_array_equal(bits(one), bits(np.ascontiguousarray(other[:, :, start:stop])))
    alone = fusemax.attention(q[1:, 1:], k[1:, 1:], v[1:, 1:], query_offset=15, **options, **names)
    for one, other in zip(alone, whole, strict=True):
        np.testing.assert_array_equal(bits(one), bits(np.ascontiguousarray(other[1:, 1:])))
    monkeypatch.setattr(scored_attention, "MOST_PAIRS", 1)
    for one, other in zip(fusemax.attention(q, k, v, query_offset=15, **options, **names), whole, strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))


@pytest.mark.parametrize("seed", range(8))
def test_keys_in_blocks(linear, monkeypatch, seed: int) -> None:
    """More keys than the host has at a time: blocks are merged, and a window may begin and end in any of them."""
    monkeypatch.setattr(scored_attention, "KEYS", 16)
    arrays, options = random_call(200 + seed)
    names = {"return_weights": True, "return_scores": "masked", "return_lse": True}
    out, lse, weights, scores = fusemax.attention(*arrays, device=linear, softcap=7.0, out_dtype="float32", **names, **options)
    monkeypatch.setattr(scored_attention, "MOST_PAIRS", 1)
    again = fusemax.attention(*arrays, device=linear, softcap=7.0, out_dtype="float32", **names, **options)
    for one, other in zip(again, (out, lse, weights, scores), strict=True):
        np.testing.assert_array_equal(bits(one), bits(other))
    monkeypatch.undo()
    whole = fusemax.attention(*arrays, device=linear, softcap=7.0, out_dtype="float32", **names, **options)
    np.testing.assert_allclose(out, whole[0], atol=2e-5 * max(1e-3, np.abs(whole[0]).max()))
    np.testing.assert_allclose(lse, whole[1], atol=2e-5)
    np.testing.assert_allclose(weights, whole[2], atol=1e-6)
    np.testing.assert_array_equal(bits(scores), bits(whole[3]))


# -- masks and biases of pairs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 50), (3, 1, 50), (2, 1, 40, 50)])
def test_masks_of_pairs(device, shape: tuple[int, ...]) -> None:
    q, k, v = qkv((2, 3, 40, 16), (2, 3, 50, 16), 8, spread=6)
    mask = np.random.default_rng(5).random(shape) < 0.4
    if shape[-2] > 1:
        mask[..., -1, :] = False
    found = capped(device, q, k, v, mask=mask)
    scores = np.where(mask, exact(q, k, 9.0)[1], -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    expected = weights @ v.astype(np.float64) / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    assert relative_error(found, expected) <= 2e-5
    assert (found[~np.broadcast_to(mask, (2, 3, 40, 50)).any(axis=-1)] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("hidden", [-np.inf, "lowest", None])
def test_biases_of_pairs(device, dtype: Any, hidden: Any) -> None:
    """Added behind the cap; -inf and the lowest number of the type are not seen, exactly."""
    q, k, v = qkv((2, 40, 16), (2, 50, 16), 8, spread=6)
    bias = (np.random.default_rng(6).standard_normal((40, 50)) * 4).astype(dtype)
    places = np.random.default_rng(7).random((40, 50)) < 0.3
    if hidden is not None:
        bias[places] = ml_dtypes.finfo(dtype).min if hidden == "lowest" else hidden
    found = capped(device, q, k, v, bias=bias)
    scores = exact(q, k, 9.0)[1] + bias.astype(np.float64)
    if hidden is not None:
        scores = np.where(places, -np.inf, scores)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    assert relative_error(found, weights @ v.astype(np.float64) / weights.sum(axis=-1, keepdims=True)) <= 2e-5


# -- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_no_queries_and_no_keys(linear, shape: tuple[int, int]) -> None:
    q, k, v = (np.zeros((2, length, 8), np.float32) for length in (shape[0], shape[1], shape[1]))
    out, lse, weights, scores = fusemax.attention(
        q, k, v, device=linear, softcap=5, return_lse=True, return_weights=True, return_scores="masked"
    )
    assert out.shape == (2, shape[0], 8) and not out.any()
    assert lse.shape == (2, shape[0]) and (lse == -np.inf).all()
    assert weights.shape == scores.shape == (2, *shape)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"softcap": -1}, ValueError, "softcap must be finite and greater than 0, or 0 for no cap, not -1"),
        ({"softcap": np.inf}, ValueError, "softcap must be finite"),
        ({"softcap": "30"}, TypeError, "softcap must be a number or None, not '30'"),
        ({"softcap": [30.0]}, TypeError, "softcap must be a number or None"),
        ({"return_weights": 1}, TypeError, "return_weights must be True or False, not 1"),
        ({"return_scores": "all"}, ValueError, "return_scores must be one of raw, capped, masked, or None, not 'all'"),
        ({"return_scores": True}, ValueError, "return_scores must be one of"),
    ],
)
def test_wrong_arguments(linear, options: dict[str, Any], error: type[Exception], message: str) -> None:
    q, k, v = qkv((5, 8), (5, 8), 8)
    with pytest.raises(error, match=message):
        fusemax.attention(q, k, v, device=linear, **options)


def test_not_with_a_program(linear) -> None:
    q, k, v = qkv((5, 8), (5, 8), 8)
    program = fusemax.compile(head_dim=8, config=linear.config)
    with pytest.raises(ValueError, match="program must not be given with softcap, return_weights or return_scores"):
        fusemax.attention(q, k, v, device=linear, softcap=5, program=program)
    with pytest.raises(TypeError, match=r"submit\(\) got an unexpected keyword argument 'softcap'"):
        linear.submit(q, k, v, softcap=5)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("terms", "error", "message"),
    [
        ({"mask": np.ones((3, 3), bool)}, ValueError, r"mask must broadcast to \(2, 5, 5\), not be of shape \(3, 3\)"),
        ({"mask": np.ones((5, 5))}, TypeError, "mask must be an array of truth values"),
        ({"bias": np.ones((5, 4), np.float32)}, ValueError, r"bias must broadcast to \(2, 5, 5\), not be of shape \(5, 4\)"),
        ({"bias": np.full((5, 5), np.nan)}, ValueError, "bias must be finite or -inf, but is not"),
        ({"bias": np.ones((5, 5), int)}, TypeError, "bias must be bfloat16 or float32 numbers, not int64"),
    ],
)
def test_wrong_terms(terms: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PairTerms.of(terms, (2,), 5, 5)

"""Routing attention: both public variants against float64, token by token."""

from __future__ import annotations

import numpy as np
import pytest

import fusemax
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error
from fusemax.plan.parts import bfloat16


def centroids_of(heads: int, clusters: int, e: int = 64, seed: int = 7) -> np.ndarray:
    found = np.random.default_rng(seed).standard_normal((heads, clusters, e))
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def layer_norm(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return bfloat16((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6))


def unit(x: np.ndarray) -> np.ndarray:
    return bfloat16(x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=-1, keepdims=True))


@pytest.mark.parametrize("shared", [False, True])
def test_google(device, qkv, shared: bool) -> None:
    q, k, v = qkv(256, leading=(2,))
    centroids = centroids_of(2, 4)
    out = fusemax.routing_attention(q, None if shared else k, v, centroids, device=device)
    members = fusemax.routing_members(q, centroids, 64)
    assert members.shape == (2, 4, 64)
    for head in range(2):
        keys = layer_norm(q[head] if shared else k[head])
        expected = exact.routing_attention(layer_norm(q[head]), keys, v[head], members[head])
        assert relative_error(out[head], expected) <= 2e-5
    # Some tokens are in no cluster, some in more than one.
    counts = np.bincount(members[0].reshape(-1), minlength=256)
    assert counts.min() == 0
    assert counts.max() > 1
    assert (out[0][counts == 0] == 0).all()


def test_members_are_the_nearest_in_order(qkv) -> None:
    q, _, _ = qkv(50, e=8, leading=(1,))
    centroids = centroids_of(1, 3, 8)
    members = fusemax.routing_members(q, centroids, 10)
    x = q[0].astype(np.float64)
    product = centroids[0] @ ((x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)).T
    for row, places in zip(product, members[0], strict=True):
        assert (np.diff(places) > 0).all()
        assert row[places].min() >= np.delete(row, places).max()


def lucidrains(q, k, v, centroids, size, memory, *, causal):
    """Of one head, token by token, as the public code: scores of every pair of places, and masks of places."""
    shared = k is None
    query, value = q.astype(np.float64), v.astype(np.float64)
    key = unit(q if shared else k)
    places = fusemax.routing_members(q[None], centroids[None], size, variant="lucidrains")[0]
    key_places = places if shared else fusemax.routing_members(k[None], centroids[None], size, variant="lucidrains")[0]
    total, count = np.zeros(value.shape), np.zeros((len(value), 1))
    for cluster, (queries, keys) in enumerate(zip(places, key_places, strict=True)):
        scores = query[queries] @ key[keys].T * q.shape[-1] ** -0.5
        if shared:
            scores[queries[:, None] == keys] = -5e4
        if causal:
            scores[queries[:, None] < keys] = -np.inf
        values = value[keys]
        if memory is not None:
            scores = np.concatenate([query[queries] @ memory[0][cluster, :, None] * q.shape[-1] ** -0.5, scores], axis=1)
            values = np.concatenate([memory[1][cluster][None], values])
        weights = np.exp(scores - scores.max(1, keepdims=True))
        total[queries] += weights / weights.sum(1, keepdims=True) @ values
        count[queries] += 1
    return total / (count + 1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", [1, 40])
def test_lucidrains(device, qkv, causal: bool, shared: bool, size: int) -> None:
    q, k, v = qkv(120, leading=(2,))
    centroids = centroids_of(2, 3)
    memory = None
    if causal and not shared:
        memory = tuple(bfloat16(np.random.default_rng(seed).standard_normal((2, 3, 64))) for seed in (3, 4))
    out = fusemax.routing_attention(
        q, None if shared else k, v, centroids, window=size, causal=causal, variant="lucidrains", memory=memory, device=device
    )
    for head in range(2):
        own = None if memory is None else (memory[0][head], memory[1][head])
        keys = None if shared else k[head]
        expected = lucidrains(q[head], keys, v[head], centroids[head], size, own, causal=causal)
        # Scores of vectors of length 1 are nearly equal, and so are the weights: the rounding of each is the error.
        assert relative_error(out[head], expected) <= 4e-5


def test_batch(device, qkv) -> None:
    q, k, v = qkv(48, e=16, leading=(2, 2))
    centroids = centroids_of(2, 4, 16)
    out = fusemax.routing_attention(q, k, v, centroids, device=device)
    alone = np.stack([fusemax.routing_attention(q[i], k[i], v[i], centroids, device=device) for i in range(2)])
    np.testing.assert_array_equal(out, alone)


def test_reference_is_the_cascade(qkv) -> None:
    q, k, v = (x.astype(np.float64) for x in qkv(12, e=5, f=3))
    centroids = centroids_of(1, 2, 5)[0]
    found = interpret(CASCADES["routing"], {"MU": centroids, "QN": q.T, "KN": k.T, "V": v.T}, W=6)
    expected = exact.routing_attention(q, k, v, found["IDX"].astype(np.int64))
    np.testing.assert_allclose(found["AV"].T, expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variant": "reformer"}, ValueError, "variant must be one of google, lucidrains, not 'reformer'"),
        ({"window": 9}, ValueError, "window must be from 1 to 8, not 9"),
        ({"variant": "lucidrains"}, ValueError, "memory must be given with 'lucidrains', causal=True and keys"),
        ({"memory": (np.zeros((1, 2, 4)),) * 2}, ValueError, "memory must be None with 'google', causal=True and keys"),
    ],
)
def test_wrong_arguments(qkv, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fusemax.routing_attention(*qkv(8, e=4, leading=(1,)), centroids_of(1, 2, 4), **options)


def test_wrong_centroids(qkv) -> None:
    with pytest.raises(ValueError, match=r"centroids must be \(heads, clusters, E\) for queries"):
        fusemax.routing_attention(*qkv(8, e=4, leading=(1,)), centroids_of(2, 2, 4))

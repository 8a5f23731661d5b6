"""Routing attention: tokens attend to those that are nearest to the same centroid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cascade.builtins import REDUCTIONS
from ..plan.array import Array, Sums, array_of
from ..plan.parts import bfloat16
from ..runtime.argument_checks import is_integer
from ..runtime.device import Counters, Device
from ..runtime.operands import as_filled_array
from .checks import check_choice, check_qkv, check_square

__all__ = ["routing_attention", "routing_members"]

#: Of LayerNorm without scale and bias.
LAYER_NORM_EPSILON = 1e-6
#: Added to the number of clusters that a token is in.
COUNT_EPSILON = {"google": 1e-2, "lucidrains": 1e-5}
#: Score to base 2 of keys that are hidden, before the scale.
HIDDEN = -8192.0


def routing_attention(
    q: ArrayLike,
    k: ArrayLike | None,
    v: ArrayLike,
    centroids: NDArray[Any],
    *,
    window: int | None = None,
    causal: bool = True,
    variant: str = "google",
    memory: tuple[NDArray[Any], NDArray[Any]] | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
) -> NDArray[np.float32]:
    """Compute routing attention, for inference: centroids are given and do not change.

    The w tokens nearest to a centroid attend among themselves; a token that is in several clusters gets the mean of their
    outputs, Σ O / (count + ε), and one that is in none gets zeros. Roy et al., Efficient Content-Based Sparse Attention with
    Routing Transformers (arXiv 2003.05997), algorithm 1. The two public codes differ from the paper and from each other:

    ``google`` (the paper's): queries and keys pass LayerNorm without scale and bias, scores have no factor 1/√E, the members
    of a cluster are those of its queries, in ascending order, and the causal mask is the lower triangle of that list; ε = 1e-2.

    ``lucidrains``: clusters are of vectors of length 1, scores are q · k/|k| / √E, the mask compares places in the sequence,
    and ε = 1e-5. Shared queries and keys: a token's score with itself is -5e4, so only the first of a cluster sees itself.
    Otherwise keys have members of their own, and a causal cluster has a learned key and value in front.

    What is normalised is rounded to bfloat16 on its way to the array.

    Parameters
    ----------
    q : array (..., heads, L, E)
        Queries.
    k : array (..., heads, L, E) or None
        Keys; None if they are shared, which means made of the queries.
    v : array (..., heads, L, F)
        Values.
    centroids : array (heads, C, E)
        As they stand in the model: of length 1 for ``lucidrains``.
    window
        w, tokens per cluster; L // C if not given.
    causal
        A token sees no token behind it.
    variant
        ``google`` or ``lucidrains``.
    memory
        Key (heads, C, E) and value (heads, C, F) of every cluster; needed by causal ``lucidrains`` with keys, and only there.
    device, counters
        See :mod:`fusemax.attentions`.

    Returns
    -------
    float32 array (..., heads, L, F)

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    NonFiniteError, ScoreOverflowError, DeviceError
        As :func:`fusemax.attention`.
    """
    check_choice("variant", variant, ("google", "lucidrains"))
    queries, keys, values = check_qkv(q, q if k is None else k, v)
    check_square(queries, keys)
    if queries.ndim < 3 or queries.shape[-3] != keys.shape[-3]:
        raise ValueError(f"q, k and v must end in (heads, L, head dim) with equal heads, not {queries.shape} and {keys.shape}")
    size = _window(window, centroids, queries)
    needs_memory = variant == "lucidrains" and causal and k is not None
    if needs_memory != (memory is not None):
        rule = "be given" if needs_memory else "be None"
        raise ValueError(f"memory must {rule} with {variant!r}, causal={causal} and {'no ' if k is None else ''}keys")
    normal = _layer_norm if variant == "google" else _unit
    members = routing_members(queries, centroids, size, variant=variant)
    lists = members if k is None or variant == "google" else routing_members(keys, centroids, size, variant=variant)
    score_keys = bfloat16(normal(keys))
    score_queries = bfloat16(normal(queries)) if variant == "google" else queries
    scale = 1.0 if variant == "google" else queries.shape[-1] ** -0.5
    with array_of(device, counters) as array:
        clusters = _Clusters(array, score_queries, score_keys, values, members, lists, scale)
        if variant == "lucidrains" and k is None:
            found = clusters.without_self(causal=causal)
        elif memory is not None:
            found = clusters.by_place(*_memory(memory, centroids, values))
        else:
            found = clusters.plain(causal=causal)
    return _scatter(found, members, values.shape, COUNT_EPSILON[variant]).astype(np.float32)


def routing_members(x: NDArray[Any], centroids: NDArray[Any], window: int, *, variant: str = "google") -> NDArray[np.int64]:
    """Find the tokens of every cluster: those with the largest products with its centroid, in ascending order.

    Parameters
    ----------
    x : array (..., heads, L, E)
        Queries (or keys); LayerNorm or division by the length happen here.
    centroids : array (heads, C, E)
    window
        w, tokens per cluster.
    variant
        ``google`` or ``lucidrains``.

    Returns
    -------
    array (..., heads, C, w)
        Of equal products the first token counts.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    """
    check_choice("variant", variant, ("google", "lucidrains"))
    x = as_filled_array("x", x)
    size = _window(window, centroids, x)
    tokens = (_layer_norm if variant == "google" else _unit)(bfloat16(x))
    product = np.asarray(centroids, np.float64) @ tokens.swapaxes(-1, -2)
    return REDUCTIONS["argtop"].compute(product, -1, size)


def _window(window: int | None, centroids: object, q: NDArray[Any]) -> int:
    if not isinstance(centroids, np.ndarray):
        raise TypeError(f"centroids must be a NumPy array, not {type(centroids).__name__}")
    if q.ndim < 3 or centroids.ndim != 3 or (centroids.shape[0], centroids.shape[2]) != (q.shape[-3], q.shape[-1]):
        raise ValueError(f"centroids must be (heads, clusters, E) for queries (..., heads, L, E), not {centroids.shape}")
    length = q.shape[-2]
    size = length // centroids.shape[1] if window is None else window
    if not is_integer(size) or not 1 <= size <= length:
        raise ValueError(f"window must be from 1 to {length}, not {size!r}")
    return int(size)


def _memory(
    memory: tuple[NDArray[Any], NDArray[Any]], centroids: NDArray[Any], v: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    heads, clusters, e = centroids.shape
    key, value = (bfloat16(x) for x in memory)
    if key.shape != (heads, clusters, e) or value.shape != (heads, clusters, v.shape[-1]):
        shapes = f"{(heads, clusters, e)} and {(heads, clusters, v.shape[-1])}"
        raise ValueError(f"memory must be of shapes {shapes}, not {key.shape} and {value.shape}")
    return key, value


def _layer_norm(x: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + LAYER_NORM_EPSILON)


def _unit(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


class _Clusters:
    """Clusters as heads: (..., heads · C, w, head dim)."""

    def __init__(
        self,
        array: Array,
        q: NDArray[np.float64],
        k: NDArray[np.float64],
        v: NDArray[np.float64],
        members: NDArray[np.int64],
        lists: NDArray[np.int64],
        scale: float,
    ) -> None:
        self.array, self.scale = array, scale
        self.members, self.lists = _flat(members), _flat(lists)
        self.q, self.k, self.v = _gather(q, members), _gather(k, lists), _gather(v, lists)

    def plain(self, *, causal: bool) -> NDArray[np.float64]:
        return self.array.sums(self.q, self.k, self.v, self.scale, causal=causal).mean

    def without_self(self, *, causal: bool) -> NDArray[np.float64]:
        """A token sees itself only if it sees no other."""
        before = self.array.sums(self.q, self.k, self.v, self.scale, causal=True, query_offset=-1)
        if causal:
            out = before.mean
            out[..., 0, :] = self.v[..., 0, :]
            return out
        if self.members.shape[-1] == 1:
            return self.v
        behind = self.array.sums(self.q, self.k, self.v, self.scale, window=(0, -1), query_offset=1)
        return before.merge(behind).mean

    def by_place(self, memory_key: NDArray[np.float64], memory_value: NDArray[np.float64]) -> NDArray[np.float64]:
        """Queries and keys with lists of their own, causal by place, with a key of the cluster in front.

        Both lists are merged: a key in front of the queries at its place or behind it. In the merged list the causal mask is a
        triangle; a contraction element hides the places of queries among the keys. That makes four times as many tiles.
        """
        size = self.members.shape[-1]
        order = np.argsort(np.concatenate([self.lists, self.members], axis=-1), axis=-1, kind="stable")
        place = np.argsort(order, axis=-1)
        key_place, query_place = place[..., :size, None], place[..., size:, None]
        shape = (*self.q.shape[:-2], 2 * size)
        queries, keys, values = (np.zeros((*shape, x.shape[-1])) for x in (self.q, self.k, self.v))
        hide = np.full((*shape, 1), HIDDEN / self.scale)
        np.put_along_axis(queries, query_place, self.q, axis=-2)
        np.put_along_axis(keys, key_place, self.k, axis=-2)
        np.put_along_axis(values, key_place, self.v, axis=-2)
        np.put_along_axis(hide, key_place, 0.0, axis=-2)
        queries = np.concatenate([queries, np.ones((*shape, 1))], axis=-1)
        sums = self.array.sums(queries, np.concatenate([keys, hide], axis=-1), values, self.scale, causal=True)
        numerator, denominator, reference = (
            np.take_along_axis(x, query_place if x.ndim == query_place.ndim else query_place[..., 0], axis=query_place.ndim - 2)
            for x in (sums.numerator, sums.denominator, sums.reference)
        )
        heads = memory_key.reshape(-1, memory_key.shape[-1])
        score = self.scale * np.log2(np.e) * (self.q * heads[:, None]).sum(axis=-1)
        value = memory_value.reshape(-1, 1, memory_value.shape[-1])
        whole = np.ceil(score)
        weight = np.exp2(score - whole)
        memory = Sums(whole, weight, weight[..., None] * value)
        return Sums(reference, denominator, numerator).merge(memory).mean


def _flat(lists: NDArray[np.int64]) -> NDArray[np.int64]:
    """(..., heads · C, w)."""
    return lists.reshape(*lists.shape[:-3], -1, lists.shape[-1])


def _gather(x: NDArray[np.float64], lists: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows of (..., heads, L, size) by (..., heads, C, w): (..., heads · C, w, size)."""
    found = np.take_along_axis(x[..., None, :, :], lists[..., None], axis=-2)
    return found.reshape(*x.shape[:-3], -1, lists.shape[-1], x.shape[-1])


def _scatter(
    found: NDArray[np.float64], members: NDArray[np.int64], shape: tuple[int, ...], epsilon: float
) -> NDArray[np.float64]:
    """Mean of the outputs of a token's clusters, as far as ε lets it be."""
    flat = members.reshape(-1, members.shape[-2] * members.shape[-1])
    outputs = found.reshape(*flat.shape, shape[-1])
    total, count = np.zeros((len(flat), *shape[-2:])), np.zeros((len(flat), shape[-2], 1))
    for head, places in enumerate(flat):
        np.add.at(total[head], places, outputs[head])
        np.add.at(count[head], places, 1)
    return (total / (count + epsilon)).reshape(shape)

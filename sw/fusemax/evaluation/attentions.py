"""The attention systems of :mod:`fusemax.attentions` in float64, as their papers write them: what results are measured against.

Arrays are of one head, (length, head dim), or have equal leading axes. Nothing here is shared with the functions that run on
the array.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "calibrated_attention",
    "column_means",
    "entropy",
    "flow_attention",
    "flow_attention_causal",
    "routing_attention",
    "softmax_weights",
    "weighted_attention",
]

Array = NDArray[np.float64]


def _float(*arrays: ArrayLike) -> list[Array]:
    return [np.asarray(x).astype(np.float64) for x in arrays]


def softmax_weights(q: ArrayLike, k: ArrayLike, scale: float | None = None, sees: NDArray[np.bool_] | None = None) -> Array:
    """softmax(scale · q kᵀ), (..., P, M); ``sees`` says which keys a query sees, and a query that sees none has zeros."""
    query, key = _float(q, k)
    scores = query @ key.swapaxes(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if sees is not None:
        scores = np.where(sees, scores, -np.inf)
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(largest), largest, 0))
    total = weights.sum(axis=-1, keepdims=True)
    return weights / np.where(total > 0, total, 1)


def triangle(length: int) -> NDArray[np.bool_]:
    """Which keys a query of a causal head sees."""
    return np.tril(np.ones((length, length), bool))


def column_means(q: ArrayLike, k: ArrayLike, scale: float | None = None) -> Array:
    """α_m = Σ_{p≥m} A[p, m] / (N - m) of causal softmax attention (2410.10781, equation 2)."""
    length = np.shape(q)[-2]
    return softmax_weights(q, k, scale, triangle(length)).sum(axis=-2) / (length - np.arange(length))


def entropy(q: ArrayLike, k: ArrayLike, scale: float | None = None, sees: NDArray[np.bool_] | None = None) -> Array:
    """-Σ_m A log A, nats (2501.03489, section 3.1)."""
    weights = softmax_weights(q, k, scale, sees)
    return -(weights * np.log(np.where(weights > 0, weights, 1))).sum(axis=-1)


def calibrated_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, *, threshold: float = 0.1, beta: float = 0.4, scale: float | None = None
) -> tuple[Array, list[int], Array]:
    """ACT of one head (2406.15765, equations 3 to 5): output, the sinks that are calibrated, and each row's weight on them."""
    length = np.shape(q)[-2]
    weights = softmax_weights(q, k, scale, triangle(length))
    sinks = np.flatnonzero(column_means(q, k, scale) > threshold)[1:]
    chosen = np.isin(np.arange(length), sinks)
    share = weights[:, chosen].sum(axis=1)
    rest = weights[:, ~chosen].sum(axis=1)
    gain = np.where(rest > 0, 1 + (1 - beta) * share / np.where(rest > 0, rest, 1), 1)
    calibrated = np.where(chosen, beta * weights, weights * gain[:, None])
    calibrated[0] = weights[0]
    return calibrated @ _float(v)[0], sinks.tolist(), share


def flow_attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, *, clamp: float | None = 1.0) -> Array:
    """Flow attention of the core code (2202.06258): ε on both operands of every product of flows, sigmoid features."""
    query, key, value = _float(q, k, v)
    eps = 1e-6
    fq, fk = 1 / (1 + np.exp(-query)), 1 / (1 + np.exp(-key))
    incoming = np.einsum("...pe,...e->...p", fq + eps, fk.sum(-2) + eps)
    outgoing = np.einsum("...me,...e->...m", fk + eps, fq.sum(-2) + eps)
    sink = np.einsum("...pe,...e->...p", fq + eps, (fk / outgoing[..., None]).sum(-2) + eps)
    source = np.einsum("...me,...e->...m", fk + eps, (fq / incoming[..., None]).sum(-2) + eps)
    source = source if clamp is None else np.clip(source, -clamp, clamp)
    competition = np.exp(source) / np.exp(source).sum(-1, keepdims=True) * key.shape[-2]
    allocation = 1 / (1 + np.exp(-sink * query.shape[-2] / key.shape[-2]))
    context = np.einsum("...me,...mf->...ef", fk, value * competition[..., None])
    return np.einsum("...pe,...ef->...pf", fq / incoming[..., None], context) * allocation[..., None]


def flow_attention_causal(q: ArrayLike, k: ArrayLike, v: ArrayLike) -> Array:
    """The causal form: every sum up to the present token, products of flows over its number, and no factor P/M."""
    query, key, value = _float(q, k, v)
    eps, number = 1e-6, np.arange(1, np.shape(q)[-2] + 1)
    fq, fk = 1 / (1 + np.exp(-query)), 1 / (1 + np.exp(-key))
    incoming = np.einsum("...pe,...pe->...p", fq + eps, fk.cumsum(-2) + eps) / number
    outgoing = np.einsum("...pe,...pe->...p", fk + eps, fq.cumsum(-2) + eps) / number
    sink = np.einsum("...pe,...pe->...p", fq + eps, (fk / outgoing[..., None]).cumsum(-2) + eps) / number
    source = np.einsum("...pe,...pe->...p", fk + eps, (fq / incoming[..., None]).cumsum(-2) + eps) / number
    weights = np.exp(np.clip(source, -1, 1))
    competition = weights / weights.cumsum(-1) * number
    scores = fq / (incoming * number)[..., None] @ fk.swapaxes(-1, -2)
    scores = np.where(triangle(len(number)), scores, 0)
    return scores @ (value * competition[..., None]) / (1 + np.exp(-sink))[..., None]


def weighted_attention(
    weights: Array, v: ArrayLike, *, normaliser: str | None = None, sees: NDArray[np.bool_] | None = None
) -> Array:
    """W v with weights that a mask may leave out, over 1, their ``sum`` or ``max1`` = max(\\|Σ\\|, 1) (2410.10781, table 4)."""
    seen = weights if sees is None else np.where(sees, weights, 0)
    total = seen.sum(axis=-1, keepdims=True)
    divisor = {None: np.ones_like(total), "sum": total, "max1": np.maximum(np.abs(total), 1)}[normaliser]
    return seen @ _float(v)[0] / np.where(divisor == 0, 1, divisor)


def routing_attention(
    q: ArrayLike, k: ArrayLike, v: ArrayLike, members: NDArray[np.int64], *, scale: float = 1.0, epsilon: float = 1e-2
) -> Array:
    """Causal attention within the lists ``members`` (C, w) of one head, and the mean over a token's clusters.

    ``q`` and ``k`` are those that the scores are made of, normalised.
    """
    query, key, value = _float(q, k, v)
    total, count = np.zeros(value.shape), np.zeros((len(value), 1))
    for places in members:
        weights = softmax_weights(query[places], key[places], scale, triangle(len(places)))
        total[places] += weights @ value[places]
        count[places] += 1
    return total / (count + epsilon)

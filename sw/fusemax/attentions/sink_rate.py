"""Attention sinks: how much of the weight a key draws, and in how many heads it is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plan.array import Array, array_of
from ..runtime.argument_checks import is_integer
from ..runtime.device import Counters, Device
from .checks import check_fraction, check_qkv, check_square, heads_of, repeat_heads, softmax_scale
from .column_sums import column_sums

__all__ = ["SinkRate", "sink_rate"]


@dataclass(frozen=True)
class SinkRate:
    """Sinks of some heads.

    Members
    -------
    alpha : float64 (..., keys)
        α_k: mean weight of a key over the queries that see it. Of every key, or of the one that was asked for.
    rate : float64 (keys,)
        Sink_k^ε: percentage of all heads (of all layers and samples, the leading axes) with α_k > ε.
    out : float32 (..., T, F) or None
        Attention's output, if one key was asked for with values.
    """

    alpha: NDArray[np.float64]
    rate: NDArray[np.float64]
    out: NDArray[np.float32] | None = None


def sink_rate(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any] | None = None,
    *,
    key: int | None = None,
    epsilon: float = 0.3,
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
) -> SinkRate:
    """Measure the attention sinks of causal softmax attention.

    α_k = Σ_{i≥k} A[i, k] / (T - k), k from 0, and Sink_k^ε = 100 · mean over samples, layers and heads of (α_k > ε). Gu et al.,
    When Attention Sink Emerges (arXiv 2410.10781), equation 2; the paper's ε is 0.3, T is 64, and it reports the first key as
    Sink_1. The public code does the same; of attention that is not normalised it takes |w| / (Σ |w| + 1e-8) as the weight.

    All keys take two sweeps: one for the log-sum-exp of every query, one with the roles of queries and keys swapped. One key
    takes one, as one more column of the values, and gives the attention's output too.

    Parameters
    ----------
    q, k : arrays (..., T, E)
        Queries and keys, float32 or bfloat16; leading axes as :func:`fusemax.attention`'s.
    v : array (..., T, F)
        Values; only with ``key``.
    key
        The key to measure, from 0; all if not given.
    epsilon
        Threshold of a head's α_k, 0 to 1.
    scale
        Factor of the scores; 1/√E if not given.
    device, counters
        See :mod:`fusemax.attentions`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or the machine has no room for E + 3 elements of queries (all keys).
    NonFiniteError, ScoreOverflowError and others
        As :func:`fusemax.attention`.
    """
    if key is None and v is not None:
        raise ValueError("v must be None unless key says which key is measured")
    queries, keys, values = check_qkv(q, k, k if v is None else v)
    check_square(q, k)
    epsilon, factor = check_fraction("epsilon", epsilon), softmax_scale(scale, q.shape[-1])
    length = q.shape[-2]
    if key is not None and (not is_integer(key) or not 0 <= key < length):
        raise ValueError(f"key must be from 0 to {length - 1}, or None, not {key!r}")
    with array_of(device, counters) as array:
        if key is None:
            return _all_keys(array, queries, keys, epsilon, factor)
        column = np.zeros((*keys.shape[:-1], 1))
        column[..., key, :] = 1
        sums = array.sums(queries, keys, column if v is None else np.concatenate([values, column], -1), factor, causal=True)
    alpha = sums.mean[..., key:, -1:].mean(axis=-2)
    out = None if v is None else sums.mean[..., :-1].astype(np.float32)
    return SinkRate(alpha, _rate(alpha, epsilon), out)


def _all_keys(array: Array, q: NDArray[Any], k: NDArray[Any], epsilon: float, scale: float) -> SinkRate:
    length = q.shape[-2]
    lse = array.sums(q, k, np.ones((*k.shape[:-1], 1)), scale, causal=True).lse
    sums = column_sums(array, heads_of(q), heads_of(repeat_heads(k, q)), lse.reshape(-1, length), scale, causal=True)
    alpha = (sums / (length - np.arange(length))).reshape(q.shape[:-1])
    return SinkRate(alpha, _rate(alpha, epsilon))


def _rate(alpha: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    return 100 * (alpha > epsilon).reshape(-1, alpha.shape[-1]).mean(axis=0)

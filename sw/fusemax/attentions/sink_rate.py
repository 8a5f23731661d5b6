"""Attention sinks: how much of the weight a key draws, and in how many heads it is too much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..plan.array import Array, array_of, score_bound
from ..plan.parts import parts_of
from ..runtime.argument_checks import is_integer
from ..runtime.device import Counters, Device
from ..runtime.options import SweepOptions
from .checks import check_choice, check_fraction, check_qkv, check_square, heads_of, repeat_heads, softmax_scale
from .column_sums import column_sums

__all__ = ["SINK_WEIGHTS", "SinkRate", "sink_rate"]

#: Functions of the score that a weight may be; ``identity`` is the score itself, which is what kernels of features are.
SINK_WEIGHTS = ("softmax", "sigmoid", "elu1", "identity")

#: The public code adds it to the sum of weights that are not normalised.
ADDED = 1e-8


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
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike | None = None,
    *,
    key: int | None = None,
    weights: str = "softmax",
    bias: float = 0.0,
    epsilon: float = 0.3,
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
) -> SinkRate:
    """Measure the attention sinks of causal attention.

    α_k = Σ_{i≥k} A[i, k] / (T - k), k from 0, and Sink_k^ε = 100 · mean over samples, layers and heads of (α_k > ε). Gu et al.,
    When Attention Sink Emerges (arXiv 2410.10781), equation 2; the paper's ε is 0.3, T is 64, and it reports the first key as
    Sink_1. Weights that are not those of a softmax need not sum to 1. For them A is a proxy, as in the public code:
    \\|w\\| / (Σ \\|w\\| + 1e-8).

    All keys take two sweeps: one for the log-sum-exp of every query, or its Σ \\|w\\|, one with the roles of queries and keys
    swapped. One key takes one, as one more column of the values; a softmax gives its output too. ``elu1`` and ``identity`` are
    two sweeps in place of one: exp(min(s, 0)) and max(s, 0), or max(s, 0) and max(-s, 0).

    Parameters
    ----------
    q, k : arrays (..., T, E)
        Queries and keys; formats and leading axes as :func:`fusemax.attention`'s.
    v : array (..., T, F)
        Values; only with ``key`` and ``softmax``.
    key
        The key to measure, from 0; all if not given.
    weights
        Function of the scores, a name of :data:`SINK_WEIGHTS`. Of a kernel, q and k are its features and the weights are
        ``identity``. ``sigmoid`` and ``elu1`` need a machine with the option ``functions``, ``identity`` one with ``linear``.
    bias
        Added to the scores of ``sigmoid``.
    epsilon
        Threshold of a head's α_k, 0 to 1.
    scale
        Factor of the scores; 1/√E if not given.
    device, counters
        See :mod:`fusemax.attentions`.

    Raises
    ------
    MissingOptionError
        If the machine was made without the option. A ValueError too.
    TypeError, ValueError
        If an argument is not as above, or the machine has no room for E + 3 elements of queries (all keys).
    NonFiniteError, ScoreOverflowError, DeviceError
        As :func:`fusemax.attention`.
    """
    if key is None and v is not None:
        raise ValueError("v must be None unless key says which key is measured")
    check_choice("weights", weights, SINK_WEIGHTS)
    if v is not None and weights != "softmax":
        raise ValueError(f"v must be None with weights of {weights!r}")
    if bias and weights != "sigmoid":
        raise ValueError(f"bias must be 0 with weights of {weights!r}, not {bias!r}")
    queries, keys, values = check_qkv(q, k, k if v is None else v)
    check_square(queries, keys)
    epsilon, factor = check_fraction("epsilon", epsilon), softmax_scale(scale, queries.shape[-1])
    length = queries.shape[-2]
    if key is not None and (not is_integer(key) or not 0 <= key < length):
        raise ValueError(f"key must be from 0 to {length - 1}, or None, not {key!r}")
    with array_of(device, counters) as array:
        if weights != "softmax":
            return _proxy(_Weights(array, weights, factor, float(bias)), queries, keys, key, epsilon)
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


@dataclass(frozen=True)
class _Weights:
    """Sums over keys, up to a query's place, with the sizes of weights."""

    array: Array
    function: str
    scale: float
    bias: float

    def sums(self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], **options: Unpack[SweepOptions]) -> NDArray[np.float64]:
        array, scale = self.array, self.scale
        bound = abs(scale) * score_bound(q, k)
        if self.function == "sigmoid":
            return array.weighted("sigmoid", q, k, v, scale, bias=self.bias, **options)
        if self.function == "elu1":
            first = array.weighted("exp_min", q, k, v, scale, **options)
        else:
            first = array.weighted("relu", q, k, v, -scale, bound=bound, **options)
        return first + array.weighted("relu", q, k, v, scale, bound=bound, **options)


def _proxy(weights: _Weights, q: NDArray[Any], k: NDArray[Any], key: int | None, epsilon: float) -> SinkRate:
    """Weights that are not normalised, over their sum: a key's share of each query."""
    length = q.shape[-2]
    columns = np.ones((*k.shape[:-1], 1 if key is None else 2))
    if key is not None:
        columns[..., 1] = 0
        columns[..., key, 1] = 1
    found = weights.sums(q, k, columns, causal=True)
    total = found[..., 0] + ADDED
    if key is not None:
        alpha = (found[..., 1] / total)[..., key:].mean(axis=-1, keepdims=True)
        return SinkRate(alpha, _rate(alpha, epsilon))
    # Queries take the keys' place, and each one's share of a sum is its value.
    shares = np.concatenate(parts_of(heads_of(1 / total[..., None]), 2), axis=-1)
    sums = weights.sums(heads_of(repeat_heads(k, q)), heads_of(q), shares, window=(0, -1)).sum(axis=-1)
    alpha = (sums / (length - np.arange(length))).reshape(q.shape[:-1])
    return SinkRate(alpha, _rate(alpha, epsilon))


def _rate(alpha: NDArray[np.float64], epsilon: float) -> NDArray[np.float64]:
    return 100 * (alpha > epsilon).reshape(-1, alpha.shape[-1]).mean(axis=0)

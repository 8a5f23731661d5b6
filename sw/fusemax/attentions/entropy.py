"""Entropy of attention weights, and what entropy-guided attention makes of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arith.score_slices import SLICES
from ..plan.array import array_of
from ..runtime.argument_checks import numbers_of
from ..runtime.device import Counters, Device
from ..runtime.options import SweepOptions
from .checks import check_choice, check_fraction, check_options, check_qkv, softmax_scale

__all__ = ["AttentionEntropy", "attention_entropy", "entropy_bins", "entropy_penalty"]


@dataclass(frozen=True)
class AttentionEntropy:
    """Attention with the entropy of its weights.

    Members
    -------
    entropy : float64 (..., P)
        H_p = -Σ_m A log A, in nats; 0 where a query sees no key.
    out : float32 (..., P, F)
        The attention's output.
    lse : float32 (..., P)
        Log-sum-exp of the scores, natural logarithm.
    """

    entropy: NDArray[np.float64]
    out: NDArray[np.float32]
    lse: NDArray[np.float32]


def attention_entropy(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
    **options: Unpack[SweepOptions],
) -> AttentionEntropy:
    """Compute softmax attention and the entropy of every query's weights.

    A = softmax(scale / t_p · q kᵀ); H_p = -Σ_m A[p, m] log A[p, m]. Jha and Reagen, Entropy-Guided Attention (arXiv
    2501.03489). Its learnable strength of a head's attention is a temperature t per query: more than 1 diffuses the weights.
    The public code takes log(A + 1e-9), which changes H by at most 1e-9 per key.

    H = lse - Σ_m A s_m for scores s. A machine with the option ``entropy`` sums weights times scores beside the values, in
    three more columns. On others the keys are further values, and the host works out scale / t · q · Σ_m A k_m; that is half
    as many cycles again, and an error that grows with the scores, by some 1e-5 of their size.

    Parameters
    ----------
    q, k, v : arrays (..., P, E), (..., M, E), (..., M, F)
        As :func:`fusemax.attention`'s.
    scale
        Factor of the scores; 1/√E if not given.
    device, counters
        See :mod:`fusemax.attentions`.
    options
        ``temperature`` (t, greater than 0, broadcasts to (..., P)), ``causal``, ``window``, ``query_offset``, ``prefix`` and
        ``key_lengths``, as :func:`fusemax.attention`'s.

    Raises
    ------
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.
    """
    check_options("attention_entropy", options, ("temperature",))
    queries, keys, values = check_qkv(q, k, v)
    factor = softmax_scale(scale, queries.shape[-1])
    with array_of(device, counters) as array:
        if array.config.entropy and values.shape[-1] + SLICES <= array.config.max_f:
            sums, score = array.score_sums(queries, keys, values, factor, **options)
            entropy = np.where(sums.denominator > 0, sums.lse - math.log(2) * score, 0)
            return AttentionEntropy(entropy, sums.mean.astype(np.float32), sums.lse.astype(np.float32))
        sums = array.sums(queries, keys, np.concatenate([values, keys], axis=-1), factor, **options)
    mean = sums.mean
    score = factor * (queries * mean[..., values.shape[-1] :]).sum(axis=-1)
    temperature = options.get("temperature")
    if temperature is not None:
        score = score / np.asarray(numbers_of(temperature), np.float64)
    entropy = np.where(sums.denominator > 0, sums.lse - score, 0)
    return AttentionEntropy(entropy, mean[..., : values.shape[-1]].astype(np.float32), sums.lse.astype(np.float32))


def entropy_bins(entropies: ArrayLike) -> NDArray[np.float64]:
    """Share of heads in each quarter of the range up to the largest head's entropy.

    Entropy-Guided Attention: the range is that of the largest *observed* head, not log T. Heads of a model that
    is well behaved are in the two quarters in the middle; many in the last are "entropic overload", many in the first of deep
    layers "entropy collapse".

    Parameters
    ----------
    entropies
        Of every head: the mean over its queries, 0 or more.

    Returns
    -------
    array (4,)
        Shares, from the lowest quarter on. A head at a boundary is in the upper quarter.

    Raises
    ------
    TypeError, ValueError
        If the argument is not as above.
    """
    numbers = _entropies(entropies).reshape(-1)
    most = numbers.max()
    quarter = np.minimum(np.floor(4 * numbers / most), 3).astype(int) if most > 0 else np.zeros(len(numbers), int)
    return np.bincount(quarter, minlength=4) / len(numbers)


def entropy_penalty(
    entropy: ArrayLike, theta: ArrayLike, *, keys: int | None = None, gamma: float = 0.2, form: str = "paper"
) -> float:
    """Compute the regulariser of entropy-guided attention, without its factor λ.

    Entropy-Guided Attention, algorithm 1. With E_max = log T, each head's threshold is θ · E_max and its deviation
    δ = E - θ · E_max; δ² counts where |δ| > γ · E_max. ``paper``: E is the head's mean over queries and batch, θ is for each
    layer and head, and the result is the mean over heads, then layers. ``code``: δ is of every query; δ² is summed over batch
    and queries, then averaged over heads and layers, and the layers share one θ per head.

    Parameters
    ----------
    entropy
        (layers, batch, heads, T), nats.
    theta
        (layers, heads) for ``paper``, (heads,) for ``code``.
    keys
        T of E_max = log T, the longest context; the last axis of ``entropy`` if not given.
    gamma
        Width of the tolerance, 0 to 1.
    form
        ``paper`` or ``code``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    """
    check_choice("form", form, ("paper", "code"))
    gamma = check_fraction("gamma", gamma)
    numbers = _entropies(entropy)
    if numbers.ndim != 4:
        raise ValueError(f"entropy must be of shape (layers, batch, heads, T), not {numbers.shape}")
    layers, _, heads, length = numbers.shape
    shape = (layers, heads) if form == "paper" else (heads,)
    strengths = numbers_of(theta)
    if strengths is None:
        raise TypeError(f"theta must be an array of numbers, not {theta!r}")
    if strengths.shape != shape:
        raise ValueError(f"theta must be of shape {shape}, not {strengths.shape}")
    largest = math.log(length if keys is None else keys)
    if form == "paper":
        deviation = numbers.mean(axis=(1, 3)) - strengths * largest
        return float(np.where(np.abs(deviation) > gamma * largest, deviation**2, 0).mean(axis=1).mean())
    deviation = numbers - strengths[:, None] * largest
    per_head = np.where(np.abs(deviation) > gamma * largest, deviation**2, 0).sum(axis=(1, 3))
    return float(per_head.mean(axis=1).mean())


def _entropies(value: ArrayLike) -> NDArray[np.float64]:
    numbers = numbers_of(value)
    if numbers is None:
        raise TypeError(f"entropies must be an array of numbers, not {value!r}")
    if not numbers.size or not np.isfinite(numbers).all():
        raise ValueError("entropies must be finite, and at least one")
    return numbers.astype(np.float64)

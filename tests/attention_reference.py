"""Attention with everything that fusemax.attention can be asked for, in float64, query by query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["Reference", "reference", "visible_keys"]


@dataclass
class Reference:
    """Results of the shape of the queries, and how large what they were made of is.

    Members
    -------
    out, lse
        (..., P, F) and (..., P); zeros and -inf for a query that sees no key and has no state.
    largest_value
        Σ w |v|, (..., P, F): what errors of the weights are relative to.
    largest_score
        Largest magnitude of a score with every part of it counted by itself.
    """

    out: np.ndarray
    lse: np.ndarray
    largest_value: np.ndarray
    largest_score: float


def visible_keys(
    place: int, keys: int, window: tuple[int, int] | None, causal: bool, length: int, prefix: int, start: int = 0
) -> np.ndarray:
    """Which of ``keys`` keys a query at ``place`` sees."""
    key = np.arange(keys)
    near = np.full(keys, True)
    if window is not None:
        left, right = window
        near &= (left < 0) | (key >= place - left)
        near &= (right < 0) | (key <= place + right)
    if causal:
        near &= key <= place
    return (start <= key) & (key < length) & (near | (key < prefix))


def reference(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    scale: Any = None,
    *,
    causal: bool = False,
    query_offset: Any = 0,
    window: tuple[int, int] | None = None,
    key_lengths: Any = None,
    key_start: Any = None,
    prefix: Any = None,
    temperature: Any = None,
    alibi_slopes: Any = None,
    state: Any = None,
    sink: Any = None,
    softcap: float = 0.0,
) -> Reference:
    """The arrays are rounded to bfloat16 first. ``state`` is a tuple (max, denominator, numerator) of full shapes."""
    q, k, v = (x.astype(ml_dtypes.bfloat16).astype(np.float64) for x in (q, k, v))
    *leading, queries, e = q.shape
    keys, f = v.shape[-2:]
    heads = leading[-1] if leading else 1
    key_heads = k.shape[-3] if leading else 1
    batch = int(np.prod(leading[:-1]))
    q, k, v = q.reshape(batch, heads, queries, e), k.reshape(batch, key_heads, keys, e), v.reshape(batch, key_heads, keys, f)
    scales = np.broadcast_to(e**-0.5 if scale is None else np.asarray(scale, np.float64), (heads,))
    offsets = np.broadcast_to(np.ravel(query_offset), (batch,))
    lengths = np.broadcast_to(np.ravel(keys if key_lengths is None else key_lengths), (batch,))
    starts = np.broadcast_to(np.ravel(0 if key_start is None else key_start), (batch,))
    prefixes = np.broadcast_to(np.ravel(0 if prefix is None else prefix), (batch,))
    temperatures = np.broadcast_to(1.0 if temperature is None else np.asarray(temperature, np.float64), (*leading, queries))
    temperatures = temperatures.reshape(batch, heads, queries)
    slopes = np.zeros(heads) if alibi_slopes is None else np.asarray(alibi_slopes, np.float32).astype(np.float64)
    if state is not None:
        maximum, denominator, numerator = (np.asarray(part, np.float64) for part in state)
        maximum, denominator = maximum.reshape(batch, heads, queries), denominator.reshape(batch, heads, queries)
        numerator = numerator.reshape(batch, heads, queries, f)

    out, largest = np.zeros((2, batch, heads, queries, f))
    lse = np.full((batch, heads, queries), -np.inf)
    largest_score = 0.0
    for b, h, i in np.ndindex(batch, heads, queries):
        key_head = h // (heads // key_heads)
        place = i + offsets[b]
        seen = np.flatnonzero(visible_keys(place, keys, window, causal, lengths[b], prefixes[b], starts[b]))
        products = scales[h] * (k[b, key_head, seen] @ q[b, h, i])
        if softcap:
            products = softcap * np.tanh(products / softcap)
        scores = list((products + slopes[h] * (seen - place)) / temperatures[b, h, i])
        values = list(v[b, key_head, seen])
        counts = [1.0] * len(scores)
        for part in (np.abs(products), np.abs(slopes[h]) * seen):
            largest_score = max(largest_score, *(part / temperatures[b, h, i]), 0.0) if len(seen) else largest_score
        if sink is not None and sink[h] > -np.inf:
            scores.append(float(np.float32(sink[h])))
            values.append(np.zeros(f))
            counts.append(1.0)
        if state is not None and denominator[b, h, i] > 0:
            scores.append(maximum[b, h, i])
            values.append(numerator[b, h, i] / denominator[b, h, i])
            counts.append(denominator[b, h, i])
        if not scores:
            continue
        top = max(scores)
        weights = np.array(counts) * np.exp(np.array(scores) - top)
        total = weights.sum()
        lse[b, h, i] = top + np.log(total)
        out[b, h, i] = weights @ np.array(values) / total
        largest[b, h, i] = weights @ np.abs(np.array(values)) / total
    shape = (*leading, queries)
    return Reference(out.reshape(*shape, f), lse.reshape(shape), largest.reshape(*shape, f), largest_score)

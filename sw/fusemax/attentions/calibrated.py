"""ACT: attention whose sinks, but for the first, are turned down while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..plan.array import Array, Sums, array_of
from ..runtime.argument_checks import is_integer
from ..runtime.device import Counters, Device
from .checks import check_choice, check_fraction, check_qkv, check_square, heads_of, repeat_heads, softmax_scale
from .column_sums import column_sums

__all__ = ["calibrated_attention"]

#: Share of a query's weight on sinks up to which the rest is known well enough as a difference.
MOST_SHARE = 0.99

#: Scores to base 2 of keys that are hidden lie this far below the others, or twice that.
HIDDEN_LOG2 = 12


def calibrated_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    threshold: float = 0.1,
    beta: float = 0.4,
    heads: Sequence[int] | None = None,
    form: str = "auto",
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
) -> NDArray[np.float32]:
    """Compute causal attention whose sinks, but for the first, are scaled by β.

    A = softmax(scale · q kᵀ), causal; a_m = Σ_p A[p, m] / (N - m). The sinks S are the keys with a_m > threshold but for the
    first of them. A'[p, s] = β A[p, s] for s in S; the other weights of the row are multiplied by (1 - β SS_p) / (1 - SS_p),
    where SS_p is the row's weight on S, so that it still sums to 1. Output A' v. Yu et al., Unveiling and Harnessing Hidden
    Attention Sinks (arXiv 2406.15765).

    As the public code: the threshold is a number (0.1; the paper writes α/N, with α = 5), the first sink that is *found* is
    spared, whichever key it is, and row 0 is left alone. Unlike it: every batch entry has its own sinks (the code takes those
    of entry 0), and decoding is refused (there the code scales weights so that a row no longer sums to 1).

    Sweeps: attention with its state, the means of the columns, the sinks as a few keys. Where a query has almost all of its
    weight on sinks, the rest of its weight is no longer known as the difference of the two: then attention without the sinks
    is a sweep of its own (``masked``).

    Parameters
    ----------
    q, k, v : arrays (..., N, E), (..., N, E), (..., N, F)
        Of equal length; leading axes as :func:`fusemax.attention`'s.
    threshold
        Mean weight above which a key is a sink, 0 to 1.
    beta
        Factor of the sinks' weights, 0 to 1.
    heads
        Query heads to calibrate, as numbers of the last leading axis; the others are plain attention. All if not given.
    form
        ``factored``, ``masked``, or ``auto``: factored, and masked for the heads in which a query has more than 0.99 of its
        weight on sinks.
    scale
        Factor of the scores; 1/√E if not given.
    device, counters
        See :mod:`fusemax.attentions`.

    Returns
    -------
    float32 array (..., N, F)

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or the machine has no room for E + 3 elements of queries.
    NonFiniteError, ScoreOverflowError, DeviceError
        As :func:`fusemax.attention`.
    """
    queries, keys, values = check_qkv(q, k, v)
    check_square(queries, keys)
    threshold, beta = check_fraction("threshold", threshold), check_fraction("beta", beta)
    check_choice("form", form, ("auto", "factored", "masked"))
    factor = softmax_scale(scale, queries.shape[-1])
    count = queries.shape[-3] if queries.ndim > 2 else 1
    chosen = _chosen(heads, count)
    with array_of(device, counters) as array:
        if form == "masked" and chosen.all():
            ones = np.ones((*keys.shape[:-1], 1))
            plain = array.sums(queries, keys, ones, factor, causal=True)
        else:
            plain = array.sums(queries, keys, values, factor, causal=True)
        shape = (*queries.shape[:-1], values.shape[-1])
        out = plain.mean if plain.numerator.shape == shape else np.zeros(shape)
        which = np.flatnonzero(np.broadcast_to(chosen, queries.shape[:-2] or (1,)).reshape(-1))
        operands = (queries, repeat_heads(keys, queries), repeat_heads(values, queries))
        query, key, value = (heads_of(x)[which] for x in operands)
        flat = _Calibration(array, query, key, value, scale=factor, threshold=threshold, beta=beta)
        heads_of(out)[which] = flat.run(_some(plain, which), form)
    return out.astype(np.float32)


def _chosen(heads: Sequence[int] | None, count: int) -> NDArray[np.bool_]:
    chosen = np.ones(count, bool) if heads is None else np.zeros(count, bool)
    for head in () if heads is None else heads:
        if not is_integer(head) or not 0 <= head < count:
            raise ValueError(f"heads must be numbers from 0 to {count - 1}, not {head!r}")
        chosen[head] = True
    return chosen


def _some(sums: Sums, which: NDArray[Any]) -> Sums:
    """Of the heads in ``which``, with all leading axes as one."""
    length = sums.reference.shape[-1]
    return Sums(
        sums.reference.reshape(-1, length)[which], sums.denominator.reshape(-1, length)[which], heads_of(sums.numerator)[which]
    )


class _Calibration:
    """The sweeps behind the first, of heads (heads, N, E) that are all calibrated."""

    def __init__(
        self,
        array: Array,
        q: NDArray[np.float64],
        k: NDArray[np.float64],
        v: NDArray[np.float64],
        *,
        scale: float,
        threshold: float,
        beta: float,
    ) -> None:
        self.array, self.q, self.k, self.v = array, q, k, v
        self.scale, self.threshold, self.beta = scale, threshold, beta
        # A power of two, so that a bfloat16 holds it, which comes to -2^12 to -2^13 as a score to base 2.
        self.hidden = -(2.0 ** (HIDDEN_LOG2 + np.ceil(-np.log2(abs(scale) * np.log2(np.e))))) * np.sign(scale)

    def run(self, plain: Sums, form: str) -> NDArray[np.float64]:
        if not len(self.q):
            return np.zeros(self.v.shape)
        sinks = self.sinks(plain.lse)
        parts = self.sink_sums(sinks, plain)
        share = parts[..., -1].max(axis=-1)
        masked = np.full(len(sinks), form == "masked") | ((form == "auto") & (share > MOST_SHARE))
        # Plain attention's numerators are there unless all heads are masked; a head without sinks is plain attention.
        rest = np.zeros((*plain.denominator.shape, self.v.shape[-1] + 1))
        if not masked.all():
            factored = ~masked
            total = plain.denominator[factored][..., None]
            rest[factored] = np.concatenate([plain.numerator[factored], total], -1) / total - parts[factored]
        if masked.any():
            rest[masked] = self.other_sums(sinks, plain, np.flatnonzero(masked))
        share, other = parts[..., -1:], rest[..., -1:]
        total = share + other
        share, other = share / total, other / total
        gain = np.where(other > 0, (1 - self.beta * share) / np.where(other > 0, other, 1), 1)
        out = (self.beta * parts[..., :-1] + gain * rest[..., :-1]) / total
        out[:, 0] = self.v[:, 0]
        return out

    def sinks(self, lse: NDArray[np.float64]) -> list[NDArray[np.int64]]:
        """Sinks of every head, but for the first."""
        length = self.q.shape[-2]
        means = column_sums(self.array, self.q, self.k, lse, self.scale, causal=True) / (length - np.arange(length))
        return [np.flatnonzero(head > self.threshold)[1:] for head in means]

    def sink_sums(self, sinks: list[NDArray[np.int64]], plain: Sums) -> NDArray[np.float64]:
        """Σ A[p, s] v_s and Σ A[p, s] over the sinks, (heads, N, F + 1).

        A contraction element per sink hides it from the queries in front of it. Heads with fewer sinks than others have keys
        that are hidden from all.
        """
        heads, length, e = self.q.shape
        parts = np.zeros((heads, length, self.v.shape[-1] + 1))
        most, room = max(map(len, sinks)), self.array.config.max_e - e
        if room < 1 and most:
            raise ValueError(f"the head dim of q and k must be less than max_e, {self.array.config.max_e}, not {e}")
        for start in range(0, most, max(room, 1)):
            size = min(room, most - start)
            places = np.full((heads, size), length)
            for head, found in enumerate(sinks):
                here = found[start : start + size]
                places[head, : len(here)] = here
            hide = np.where(np.arange(length)[:, None] >= places[:, None], 0.0, self.hidden)
            gathered = np.minimum(places, length - 1)[..., None]
            key, value = (np.take_along_axis(x, gathered, axis=1) for x in (self.k, self.v))
            one = np.broadcast_to(np.eye(size), (heads, size, size))
            queries = np.concatenate([self.q, hide], -1)
            sums = self.array.sums(queries, np.concatenate([key, one], -1), value, self.scale)
            parts += self.relative(sums, plain.lse)
        return parts

    def other_sums(self, sinks: list[NDArray[np.int64]], plain: Sums, which: NDArray[np.int64]) -> NDArray[np.float64]:
        """The same over the keys that are no sinks, for some of the heads: one contraction element hides the sinks."""
        flag = np.zeros((*self.k.shape[:-1], 1))
        for head, found in enumerate(sinks):
            flag[head, found] = self.hidden
        queries = np.concatenate([self.q, np.ones((*self.q.shape[:-1], 1))], -1)[which]
        keys = np.concatenate([self.k, flag], -1)[which]
        sums = self.array.sums(queries, keys, self.v[which], self.scale, causal=True)
        return self.relative(sums, plain.lse[which])

    @staticmethod
    def relative(sums: Sums, lse: NDArray[np.float64]) -> NDArray[np.float64]:
        """Numerators and denominator as shares of the whole softmax, whose log-sum-exp is given."""
        weight = np.exp(sums.reference * np.log(2) - lse)[..., None]
        return weight * np.concatenate([sums.numerator, sums.denominator[..., None]], -1)

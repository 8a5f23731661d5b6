"""Attention whose scores leave the machine: capped scores, and scores and weights as results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import ScoreOverflowError
from ..plan.array import Array
from ..plan.dot_products import dot_products
from ..plan.weighted_values import weighted_values
from ..planning.masks import Mask
from ..planning.seen_pairs import seen_pairs
from ..runtime.options import AttentionOptions
from ..runtime.request import Request
from ..runtime.score_options import PairTerms, ScoreOptions
from ..runtime.softmax_state import state_of_device

__all__ = ["ScoredAttention"]

#: Scores that the host has at a time, 8 bytes each and a few times over.
MOST_PAIRS = 1 << 21
#: Queries at a time are a multiple of this, or all.
QUERIES = 128
#: Queries at a time of a call with a window: scores are worked out from the first key to the last one that any of them sees.
WINDOW_QUERIES = 256

Matrix = NDArray[np.float64]


class ScoredAttention:
    """A call whose scores are matrix products of the array, and whose weights are the host's.

    Parameters
    ----------
    array
        Where it runs.
    request
        The checked call.
    terms
        Masks and biases of pairs.
    wanted
        What it wants of its scores.
    """

    def __init__(self, array: Array, request: Request, terms: PairTerms, wanted: ScoreOptions) -> None:
        self._array, self._request, self._terms, self._wanted = array, request, terms, wanted
        self._options: AttentionOptions = {"timeout": request.timeout}
        self._shape = (request.batch, request.heads, request.queries, request.keys)

    def run(self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> dict[str, Any]:
        """Work out the scores, and what was asked for.

        Returns
        -------
        dict
            ``weights`` and ``scores``, float32 (..., P, M), if wanted; with a cap ``state``, over the keys of the call.

        Raises
        ------
        NonFiniteError and others
            As :func:`fusemax.attention`.
        """
        request, wanted = self._request, self._wanted
        query, key, value = (bits.view(ml_dtypes.bfloat16) for bits in request.bits(q, k, v))
        found: dict[str, Any] = {}
        outer = (*request.leading, request.queries)
        for name, is_wanted in (("weights", wanted.weights), ("scores", wanted.scores is not None)):
            if is_wanted:
                found[name] = np.zeros(self._shape, np.float32)
        # One that is empty, so that no queries are no special case.
        nothing = np.zeros((*self._shape[:2], 0))
        parts: list[tuple[Matrix, Matrix, Matrix]] = [(nothing, nothing, np.zeros((*nothing.shape, request.f)))]
        for rows in self._chunks() if request.batch and request.heads else ():
            # What is not seen may be anything.
            with np.errstate(over="ignore", invalid="ignore"):
                scores = self._scores(query[..., rows, :], key, rows, found.get("scores"))
            if wanted.softcap is not None:
                parts.append(self._sums(scores, value, rows))
            if wanted.weights:
                found["weights"][..., rows, :] = self._weights(scores, rows)
        for name in ("weights", "scores"):
            if name in found:
                found[name] = found[name].reshape(*outer, request.keys)
        if wanted.softcap is not None:
            largest, denominator, numerator = (np.concatenate(part, axis=2) for part in zip(*parts, strict=True))
            found["state"] = state_of_device(
                largest.reshape(outer),
                denominator.reshape(outer).astype(np.float32),
                numerator.reshape(*outer, request.f).astype(np.float32),
            )
        return found

    def _chunks(self) -> Iterator[slice]:
        batch, heads, queries, keys = self._shape
        size = max(QUERIES, MOST_PAIRS // max(1, batch * heads * keys) // QUERIES * QUERIES)
        if self._request.mask.left is not None or self._request.mask.right is not None:
            size = min(size, WINDOW_QUERIES)
        for start in range(0, queries, size):
            yield slice(start, min(start + size, queries))

    # -- scores ----------------------------------------------------------------------------------------------

    def _scores(self, q: NDArray[Any], k: NDArray[Any], rows: slice, out: NDArray[np.float32] | None) -> Matrix:
        """Scores of some queries behind the cap, biases and masks, -inf where they see no key; those wanted into ``out``."""
        request, wanted = self._request, self._wanted
        batch, heads, _, keys = self._shape
        seen = seen_pairs(request.mask, batch, range(rows.start, rows.stop), keys)[:, None]
        given, bias = self._terms.rows(rows.start, rows.stop)
        if given is not None:
            seen = seen & given
        seen = np.broadcast_to(seen, (batch, heads, *seen.shape[2:]))
        every = wanted.scores in ("raw", "capped")
        columns = slice(0, keys) if every else _extent(seen)
        scores = np.zeros(seen.shape)
        if columns.stop > columns.start:
            scores[..., columns] = self._products(q, k[..., columns, :])
        if wanted.scores == "raw" and out is not None:
            out[..., rows, :] = scores
        if wanted.softcap is not None:
            scores = wanted.softcap * np.tanh(scores / wanted.softcap)
        if wanted.scores == "capped" and out is not None:
            out[..., rows, :] = scores
        if request.slopes is not None:
            scores = scores + request.distances(rows) * request.slopes[:, None, None]
        if bias is not None:
            scores = scores + bias
        if request.factors.temperature is not None:
            scores = scores / request.factors.temperature[..., rows, None]
        if not (np.isfinite(scores) | ~seen).all():
            raise ScoreOverflowError("scores must be less than the largest float32, but are not")
        scores = np.where(seen, scores, -np.inf)
        if wanted.scores == "masked" and out is not None:
            out[..., rows, :] = scores
        return scores

    def _products(self, q: NDArray[Any], k: NDArray[Any]) -> Matrix:
        """scale · q kᵀ; query heads that share keys follow each other."""
        batch, heads, queries, e = q.shape
        key_heads = k.shape[1]
        grouped = q.reshape(batch, key_heads, -1, e).astype(np.float64)
        found = dot_products(self._array, grouped, k.astype(np.float64), **self._options)
        return found.reshape(batch, heads, queries, -1) * np.broadcast_to(self._request.factors.scale, heads)[:, None, None]

    # -- results ---------------------------------------------------------------------------------------------

    def _sums(self, scores: Matrix, v: NDArray[Any], rows: slice) -> tuple[Matrix, Matrix, Matrix]:
        """Reference, denominator and numerators of some queries."""
        request = self._request
        share = request.heads // v.shape[1]
        mask = None if self._terms.seen is not None else _from_position(request.mask, rows.start)
        if not request.keys:
            return scores.sum(axis=-1), scores.sum(axis=-1), np.zeros((*scores.shape[:-1], request.f))
        largest, sums = weighted_values(self._array, scores, np.repeat(v, share, axis=1), mask, **self._options)
        return largest + sums.reference * np.log(2), sums.denominator, sums.numerator

    def _weights(self, scores: Matrix, rows: slice) -> Matrix:
        """Weights of the softmax, a sink and an initial state taken into account; zeros of a query that sees no key."""
        largest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        total = np.exp(scores - np.where(np.isfinite(largest), largest, 0)).sum(axis=-1, keepdims=True)
        with np.errstate(divide="ignore"):
            lse = largest + np.log(total) if total.size else largest
        initial = self._request.initial
        if initial is not None:
            before = np.broadcast_to(initial.lse(), (*self._request.leading, self._request.queries))
            lse = np.logaddexp(lse, before.reshape(self._shape[:3])[..., rows, None].astype(np.float64))
        return np.exp(scores - np.where(np.isfinite(lse), lse, 0))


def _extent(seen: NDArray[np.bool_]) -> slice:
    """From the first key that somebody sees to the last one."""
    places = np.flatnonzero(seen.any(axis=(0, 1, 2)))
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)


def _from_position(mask: Mask, start: int) -> Mask:
    """The mask of the queries from some position on."""
    return replace(mask, offsets=tuple(offset + start for offset in mask.offsets))

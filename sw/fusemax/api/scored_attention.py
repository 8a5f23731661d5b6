"""Attention whose scores leave the machine: capped scores, and scores and weights as results."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import ScoreOverflowError
from ..plan.array import Array, Sums
from ..plan.dot_products import dot_products
from ..plan.weighted_values import weighted_values
from ..planning.seen_pairs import part_of, seen_pairs
from ..runtime.request import Request
from ..runtime.score_options import ScoreOptions
from ..runtime.softmax_state import state_of_device

__all__ = ["ScoredAttention"]

#: Pairs of queries and keys at a time that the host aims at: 8 bytes each, a few times over.
MOST_PAIRS = 1 << 21
#: Keys at a time; what their blocks give is merged. It does not depend on anything, since results would.
KEYS = 1 << 14
#: Queries at a time are a multiple of this, or all.
QUERIES = 32
#: Queries at a time of a call with a window: scores are worked out from the first key to the last one that any of them sees.
WINDOW_QUERIES = 256

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """Some batch entries, key heads and queries of a call, with the query heads that share those key heads."""

    entries: slice
    key_heads: slice
    heads: slice
    rows: slice

    def of_pairs(self, array: NDArray[Any]) -> NDArray[Any]:
        """Of (batch, query heads, P, ...)."""
        return array[self.entries, self.heads, self.rows]


class ScoredAttention:
    """A call whose scores are matrix products of the array, and whose weights are the host's.

    Parameters
    ----------
    array
        Where it runs.
    request
        The checked call.
    wanted
        What it wants of its scores.
    """

    def __init__(self, array: Array, request: Request, wanted: ScoreOptions) -> None:
        self._array, self._request, self._wanted = array, request, wanted
        self._seen, self._bias = request.pairs.whole()
        self._shape = (request.batch, request.heads, request.queries, request.keys)
        #: What was asked for, by its name.
        self._found: dict[str, NDArray[np.float32]] = {}

    def run(self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> dict[str, Any]:
        """Work out the scores, and what was asked for.

        Returns
        -------
        dict
            ``weights`` and ``scores``, float32 (..., P, M), if wanted; with a cap ``state``, over the keys of the call.

        Raises
        ------
        ScoreOverflowError
            If a score that is seen is not finite.
        NonFiniteError, DeviceError
            As :func:`fusemax.attention`.
        """
        request, wanted = self._request, self._wanted
        query, key, value = (bits.view(ml_dtypes.bfloat16) for bits in request.bits(q, k, v))
        for name, is_wanted in (("weights", wanted.weights), ("scores", wanted.scores is not None)):
            if is_wanted:
                self._found[name] = np.zeros(self._shape, np.float32)
        outer = self._shape[:3]
        reference, denominator, numerator = np.zeros(outer), np.zeros(outer), np.zeros((*outer, request.f))
        for part in self._parts(key.shape[1]):
            sums = self._part(
                part, part.of_pairs(query), key[part.entries, part.key_heads], value[part.entries, part.key_heads]
            )
            if sums is not None:
                natural = sums.reference * np.log(2)
                for whole, some in ((reference, natural), (denominator, sums.denominator), (numerator, sums.numerator)):
                    whole[part.entries, part.heads, part.rows] = some
        shape = (*request.leading, request.queries)
        results: dict[str, Any] = {name: found.reshape(*shape, request.keys) for name, found in self._found.items()}
        if wanted.softcap is not None:
            results["state"] = state_of_device(
                reference.reshape(shape),
                denominator.reshape(shape).astype(np.float32),
                numerator.reshape(*shape, request.f).astype(np.float32),
            )
        return results

    def _parts(self, key_heads: int) -> Iterator[_Part]:
        """As many entries and heads together as stay within the number of pairs, and so many queries of them."""
        batch, heads, queries, keys = self._shape
        if not batch or not heads:
            return
        share, longest = heads // key_heads, max(1, min(keys, KEYS))
        entries = batch if batch * heads * longest * QUERIES <= MOST_PAIRS else 1
        together = key_heads if entries * heads * longest * QUERIES <= MOST_PAIRS else 1
        size = max(QUERIES, MOST_PAIRS // (entries * together * share * longest) // QUERIES * QUERIES)
        if self._request.mask.left is not None or self._request.mask.right is not None:
            size = min(size, WINDOW_QUERIES)
        for entry in range(0, batch, entries):
            for head in range(0, key_heads, together):
                for row in range(0, queries, size):
                    yield _Part(
                        slice(entry, entry + entries),
                        slice(head, head + together),
                        slice(head * share, (head + together) * share),
                        slice(row, min(row + size, queries)),
                    )

    def _part(self, part: _Part, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> Sums | None:
        """Scores and weights of some queries; the sums of their values if there is a cap."""
        request, keys = self._request, self._request.keys
        share = q.shape[1] // k.shape[1]
        total: Sums | None = None
        lse = np.full(q.shape[:3], -np.inf)
        # What is not seen may be anything.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            seen = seen_pairs(request.mask, request.batch, range(part.rows.start, part.rows.stop), keys)[part.entries, None]
            for start in range(0, keys, KEYS):
                block = slice(start, min(start + KEYS, keys))
                scores = self._scores(part, q, k[..., block, :], block, seen[..., block])
                if self._wanted.softcap is not None:
                    mask = None
                    if self._seen is None:
                        mask = part_of(request.mask, part.entries, part.rows.start, range(block.start, block.stop))
                    values = np.repeat(v[..., block, :], share, axis=1)
                    sums = weighted_values(self._array, scores, values, mask, request.timeout)
                    total = sums if total is None else total.merge(sums)
                if self._wanted.weights:
                    self._found["weights"][part.entries, part.heads, part.rows, block] = scores
                    lse = np.logaddexp(lse, _lse(scores))
            if self._wanted.weights:
                self._normalise(part, lse)
        return total

    # -- scores ----------------------------------------------------------------------------------------------

    def _scores(self, part: _Part, q: NDArray[Any], k: NDArray[Any], block: slice, seen: NDArray[np.bool_]) -> Matrix:
        """Scores behind the cap, biases and masks, -inf for pairs that are not seen; those that are wanted are kept."""
        request, wanted, factors = self._request, self._wanted, self._request.factors
        if self._seen is not None:
            seen = seen & part.of_pairs(self._seen)[..., block]
        seen = np.broadcast_to(seen, (*q.shape[:3], k.shape[2]))
        columns = slice(0, k.shape[2]) if wanted.scores in ("raw", "capped") else _extent(seen)
        scores = np.zeros(seen.shape)
        if columns.stop > columns.start:
            scores[..., columns] = self._products(part, q, k[..., columns, :])
        self._keep("raw", part, block, scores)
        if wanted.softcap is not None:
            scores = wanted.softcap * np.tanh(scores / wanted.softcap)
        self._keep("capped", part, block, scores)
        if request.slopes is not None:
            distances = request.distances(part.rows)[part.entries][..., block]
            scores = scores + distances * request.slopes[part.heads, None, None]
        if self._bias is not None:
            scores = scores + part.of_pairs(self._bias)[..., block]
        if factors.temperature is not None:
            scores = scores / part.of_pairs(factors.temperature)[..., None]
        if not (np.isfinite(scores) | ~seen).all():
            raise ScoreOverflowError("scores must be less than the largest float32, but are not")
        scores = np.where(seen, scores, -np.inf)
        self._keep("masked", part, block, scores)
        return scores

    def _keep(self, name: str, part: _Part, block: slice, scores: Matrix) -> None:
        if self._wanted.scores == name:
            self._found["scores"][part.entries, part.heads, part.rows, block] = scores

    def _products(self, part: _Part, q: NDArray[Any], k: NDArray[Any]) -> Matrix:
        """scale · q kᵀ; query heads that share keys follow each other."""
        grouped = q.reshape(*k.shape[:2], -1, q.shape[-1]).astype(np.float64)
        found = dot_products(self._array, grouped, k.astype(np.float64), self._request.timeout)
        scale = np.broadcast_to(self._request.factors.scale, self._request.heads)[part.heads]
        return found.reshape(*q.shape[:3], -1) * scale[:, None, None]

    def _normalise(self, part: _Part, lse: Matrix) -> None:
        """Make weights of masked scores; a sink and an initial state take their part. Zeros of a query that sees no key."""
        request = self._request
        if request.initial is not None:
            before = np.broadcast_to(request.initial.lse(), (*request.leading, request.queries)).reshape(self._shape[:3])
            lse = np.logaddexp(lse, part.of_pairs(before).astype(np.float64))
        weights = part.of_pairs(self._found["weights"])
        weights[...] = np.exp(weights - np.where(np.isfinite(lse), lse, 0)[..., None])


def _lse(scores: Matrix) -> Matrix:
    """Logarithm of the sum of exponentials, -inf if there is none."""
    largest = scores.max(axis=-1)
    return largest + np.log(np.exp(scores - np.where(np.isfinite(largest), largest, 0)[..., None]).sum(axis=-1))


def _extent(seen: NDArray[np.bool_]) -> slice:
    """From the first key that somebody sees to the last one."""
    places = np.flatnonzero(seen.any(axis=(0, 1, 2)))
    return slice(int(places[0]), int(places[-1]) + 1) if places.size else slice(0, 0)

"""How far a result of the machine can be from the exact one, by what each of its steps can lose."""

from __future__ import annotations

import math
from typing import Any, Unpack

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planning.seen_pairs import seen_pairs
from ..runtime.operands import as_operands
from ..runtime.options import AttentionOptions, RequestOptions, check_names
from ..runtime.request import Request
from ..spec import Config, ceil_div, config_named

__all__ = ["error_bound"]

#: A query times its factor has 17 significant bits, and so has a bias.
OPERAND = 2.0**-17
#: A weight's mantissa is within this of 2^f, f the fraction of its score (:mod:`fusemax.arith.exp2`).
TABLE = 5.8e-5
#: A weight below this share of the largest one is 0, and may be anything below it.
LEAST_WEIGHT = 2.0**-61
#: State, reciprocal and their product are rounded to 24 bits.
STATE = 2.0**-24
#: What a number of a format is rounded by, of itself, and the smallest one that is not 0.
ROUNDING = {"float32": 2.0**-24, "bfloat16": 2.0**-8}
SMALLEST = 2.0**-126
#: Pairs of queries and keys at a time.
MOST_PAIRS = 1 << 21

Matrix = NDArray[np.float64]


def error_bound(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    scale: float | ArrayLike | None = None,
    config: str | Config = "small",
    **options: Unpack[AttentionOptions],
) -> Matrix:
    """Bound the error of :func:`fusemax.attention` for these arrays, element by element.

    The error is the distance from softmax(scale · q kᵀ) v in exact arithmetic, of the arrays as they are after they have been
    rounded to bfloat16, subnormal numbers as zeros. The bound is worked out in float64 from what every step of the machine
    can lose at most; docs/explanation/precision.md derives it. It takes the time of attention in float64.

    Parameters
    ----------
    q, k, v, scale
        As of :func:`fusemax.attention`.
    config
        The machine, or the name of a configuration.
    options
        Those of :func:`fusemax.attention` that say which keys a query sees, what is added to a score and what it is divided
        by, and ``out_dtype``.

    Returns
    -------
    array (..., P, F)
        float64. 0 for queries that see no key.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as for :func:`fusemax.attention`, or ``softcap``, ``state`` or ``sink`` is given.
    NonFiniteError
        If a number is not finite in bfloat16.
    """
    check_names("error_bound", options, AttentionOptions)
    for name in ("softcap", "state", "sink"):
        if options.get(name) is not None:
            raise ValueError(f"{name} must not be given: the bound is of what one sweep of the machine computes")
    machine = config_named(config)
    given: RequestOptions = {**options, "scale": scale}
    operands = as_operands(q, k, v)
    request = Request.of(*operands, given)
    request.call(machine)  # what the machine has no room for is refused
    return _Bound(request, machine, *operands).all()


class _Bound:
    """The bound of a call's elements."""

    def __init__(self, request: Request, config: Config, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> None:
        self._request, self._config = request, config
        # Those of queries and keys with ALiBi's columns behind their own.
        self._q, self._k, self._v = (_numbers(bits) for bits in request.operands(q, k, v))
        self._share = max(1, request.heads // self._v.shape[1])
        self._seen, self._bias = request.pairs.whole()
        sizes = (request.batch, request.heads, request.queries)
        self._factor = np.broadcast_to(np.asarray(request.factors.of_queries, np.float64), sizes)
        self._scale = np.broadcast_to(request.factors.scale, (request.heads,))
        self._temperature = np.broadcast_to(1.0 if request.factors.temperature is None else request.factors.temperature, sizes)

    def all(self) -> Matrix:
        """Of all elements."""
        request = self._request
        found = np.zeros((request.batch, request.heads, request.queries, request.f))
        step = max(1, MOST_PAIRS // max(1, request.keys))
        for first in range(0, request.queries if request.keys else 0, step):
            rows = slice(first, min(first + step, request.queries))
            near = seen_pairs(request.mask, request.batch, range(rows.start, rows.stop), request.keys)
            for entry, head in np.ndindex(request.batch, request.heads):
                seen = near[entry] if self._seen is None else near[entry] & self._seen[entry, head, rows]
                found[entry, head, rows] = self._rows(entry, head, rows, seen)
        return found.reshape(*request.leading, request.queries, request.f)

    def _rows(self, entry: int, head: int, rows: slice, seen: NDArray[np.bool_]) -> Matrix:
        """Of some queries of a head, which see those keys."""
        value = self._v[entry, head // self._share]
        exact, score_error = self._scores(entry, head, rows)
        blind: NDArray[np.bool_] = ~np.asarray(seen.any(axis=-1))
        top = np.where(blind, 0, np.where(seen, exact, -np.inf).max(axis=-1))
        weight = np.where(seen, np.exp2(np.minimum(exact - top[:, None], 0)), 0)
        weight /= np.where(blind, 1, weight.sum(axis=-1))[:, None]
        # What all scores of a query have in common makes no difference.
        wrong = (1 + TABLE) * np.exp2(score_error) - 1
        lost = weight * wrong + np.where(seen, LEAST_WEIGHT, 0)
        share = lost.sum(axis=-1, keepdims=True)
        out, size, lost_size = np.abs(weight @ value), weight @ np.abs(value), lost @ np.abs(value)
        sums = self._sums()
        left = 1 - share - sums
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = (lost_size + share * out + sums * (size + lost_size + out)) / left
        moved = np.where(left > 0, moved, np.inf)
        bound = moved + (3 * STATE + ROUNDING[self._request.out_dtype]) * (out + moved) + SMALLEST
        return np.where(blind[:, None], 0, bound)

    def _scores(self, entry: int, head: int, rows: slice) -> tuple[Matrix, Matrix]:
        """Exact scores to base 2, and what the machine's can be away from them, but for what all of a query have in common."""
        request, config = self._request, self._config
        query, key = self._q[entry, head, rows], self._k[entry, head // self._share]
        temperature = self._temperature[entry, head, rows, None] * math.log(2)
        natural = self._scale[head] * (query[:, : request.e] @ key[:, : request.e].T)
        if request.slopes is not None:
            natural = natural + float(request.slopes[head]) * request.distances(rows)[entry, 0]
        bias = None if self._bias is None else self._bias[entry, head, rows] / temperature
        exact = natural / temperature + (0 if bias is None else bias)
        factor = self._factor[entry, head, rows, None]
        taken = factor * (query @ key.T) + (0 if bias is None else bias)
        off = taken - exact
        off = np.abs(off - off[:, :1])
        unit = 2.0**-config.score_frac_bits
        products = (query != 0).astype(np.float64) @ (key != 0).astype(np.float64).T
        error = off + OPERAND * np.abs(factor) * (np.abs(query) @ np.abs(key).T) + products * unit / 2
        if bias is not None:
            error = error + OPERAND * (1 + 2.0**-6) * np.abs(bias) + unit / 2
        # What float64 itself may lose here, and queries and products below the smallest exponent.
        return exact, error + 1e-12 * (1 + np.abs(exact)) + SMALLEST * np.abs(key).sum(axis=-1)

    def _sums(self) -> float:
        """What a numerator or a denominator can lose, of the sum of its parts' sizes."""
        config = self._config
        column = 1.6 * config.rows * 2.0 ** -(16 + config.product_align)
        return column + ceil_div(self._request.keys, config.rows) * STATE


def _numbers(bits: NDArray[np.uint16]) -> Matrix:
    """The machine's numbers of bfloat16 bits: subnormal ones are zeros."""
    numbers = bits.view(ml_dtypes.bfloat16).astype(np.float64)
    return np.where(np.abs(numbers) < SMALLEST, 0, numbers)

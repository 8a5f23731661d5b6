"""Products of all queries with all keys, one number for each pair, as a matrix product on the array."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from .array import Array
from .weight_scores import score_parts, weight_scores

__all__ = ["dot_products"]


def dot_products(
    array: Array, q: NDArray[np.float64], k: NDArray[np.float64], timeout: float | None = None
) -> NDArray[np.float64]:
    """Compute q kᵀ.

    The weights are the queries' elements, against an identity; the values are the keys', so that a pair's product has a column
    of its own and depends on nothing else. A machine with the option ``linear`` has them as signed weights, as they are: the
    products' relative error is 2e-6. Others have powers of two, of the positive elements and of the negative ones in turn, by
    two bfloat16 numbers for each logarithm: 5e-6, and three times the cycles.

    Parameters
    ----------
    array
        Where it runs.
    q, k
        (..., P, E) and (..., M, E), bfloat16 numbers; equal leading axes.
    timeout
        Seconds after which a sweep fails; no limit if not given.

    Returns
    -------
    float64 array (..., P, M)
        Infinite or not a number where it is too large for float32.
    """
    # A power of two for each query, so that its elements stay bfloat16 numbers and are less than 1.
    largest = np.abs(q).max(axis=-1, keepdims=True)
    size = np.ldexp(1.0, np.frexp(np.where(largest > 0, largest, 1.0))[1])
    values, elements = k.swapaxes(-1, -2), q / size
    if array.config.linear:
        return size * array.weighted("identity", elements, _identity(q, 1), values, bound=1.0, timeout=timeout)
    block = array.config.max_e // 2
    total = np.zeros((*q.shape[:-1], k.shape[-2]))
    for start in range(0, q.shape[-1], block):
        some, rows = elements[..., start : start + block], values[..., start : start + block, :]
        for sign in (1, -1):
            scores = score_parts(weight_scores(array.config, np.maximum(sign * some, 0)))
            weights = scores.reshape(*scores.shape[:-2], -1)
            sums = array.sums(weights, _identity(some, 2), rows, math.log(2), timeout=timeout)
            total += sign * sums.total
    return size * total


def _identity(q: NDArray[np.float64], copies: int) -> NDArray[np.float64]:
    """A row for each element of a query, with ``copies`` elements for it."""
    size = q.shape[-1]
    return np.broadcast_to(np.repeat(np.eye(size), copies, axis=-1), (*q.shape[:-2], size, copies * size))

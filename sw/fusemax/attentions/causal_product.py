"""Causal products of queries, keys and values: Σ over the keys up to a query's place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..plan.array import Array, score_bound
from ..plan.parts import parts_of

__all__ = ["CHUNK", "causal_product"]

#: Tokens of a chunk of which pairs and state cost least on ``base`` at head dim 64.
CHUNK = 128


def causal_product(
    array: Array,
    q: NDArray[np.float64],
    k: NDArray[np.float64],
    v: NDArray[np.float64],
    *,
    parts: int = 2,
    chunk: int | None = None,
) -> NDArray[np.float64]:
    """Compute Σ_{j≤i} (q_i · k_j) v_j.

    Parameters
    ----------
    array
        Of a machine with the option ``linear``.
    q, k, v
        (..., n, E), (..., n, E), (..., n, F); equal leading axes.
    parts
        bfloat16 numbers that an element of q and k is split into if it is not one.
    chunk
        Tokens of a chunk. Within it the weights of all pairs are made; what lies in front is a state of E · F numbers. None for
        one chunk, as with fewer tokens than two.

    Returns
    -------
    float64 array (..., n, F)

    Raises
    ------
    MissingOptionError
        If the machine was made without the option. A ValueError too.
    """
    length = q.shape[-2]
    if chunk is None or length < 2 * chunk:
        return _pairs(array, q, k, v, parts)
    count = -(-length // chunk)
    padding = [(0, 0)] * (q.ndim - 2) + [(0, count * chunk - length), (0, 0)]
    queries, keys, values = (np.pad(x, padding).reshape(*x.shape[:-2], count, chunk, x.shape[-1]) for x in (q, k, v))
    out = _pairs(array, queries, keys, values, parts)
    # The last chunk's state is nobody's, and the first chunk has none in front of it.
    states = array.product(keys[..., :-1, :, :].swapaxes(-1, -2), values[..., :-1, :, :], parts).cumsum(axis=-3)
    out[..., 1:, :, :] += array.product(queries[..., 1:, :, :], states, parts)
    return out.reshape(*q.shape[:-2], count * chunk, -1)[..., :length, :]


def _pairs(
    array: Array, q: NDArray[np.float64], k: NDArray[np.float64], v: NDArray[np.float64], parts: int
) -> NDArray[np.float64]:
    """Weights of all pairs: the first parts of q with both of k, then the second of q, at a scale of its own, with one of k."""
    queries, keys = parts_of(q, parts), parts_of(k, parts)
    first = np.concatenate([queries[0]] * len(keys), axis=-1)
    bound = score_bound(queries[0], k) * (1 + 2**-7)
    out = array.weighted("identity", first, np.concatenate(keys, axis=-1), v, bound=bound, causal=True)
    for query in queries[1:]:
        out = out + array.weighted("identity", query, keys[0], v, bound=score_bound(query, keys[0]), causal=True)
    return out

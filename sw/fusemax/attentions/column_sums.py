"""Weight that each key gets from all queries: a sweep with the roles of queries and keys swapped."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..plan.array import Array
from ..plan.parts import parts_of

__all__ = ["column_sums"]

#: bfloat16 numbers that a log-sum-exp is split into: 24 bits.
PARTS = 3


def column_sums(
    array: Array, q: NDArray[Any], k: NDArray[Any], lse: NDArray[np.float64], scale: float, *, causal: bool
) -> NDArray[np.float64]:
    """Sum the weights A[p, m] = exp(scale · q_p k_m - lse_p) over the queries.

    The sum over queries of a softmax's weights is a sum of exponentials too. So keys take the queries' place, queries the
    keys', and three more contraction elements take the log-sum-exp off: (k, 1, 1, 1) · (q, the parts of -lse / scale).

    Parameters
    ----------
    q, k
        (heads, P, E) and (heads, M, E).
    lse
        (heads, P), finite: natural logarithm of every query's sum of weights.
    causal
        Query p sees the keys up to p.

    Returns
    -------
    array (heads, M)

    Raises
    ------
    ValueError
        If E + 3 is more than the machine's ``max_e``.
    """
    offsets = parts_of(-lse / scale, PARTS)
    offsets += [np.zeros_like(lse)] * (PARTS - len(offsets))
    rows = np.concatenate([q, np.stack(offsets, axis=-1)], axis=-1)
    columns = np.concatenate([k, np.ones((*k.shape[:-1], PARTS))], axis=-1)
    ones = np.ones((*q.shape[:-1], 1))
    return array.sums(columns, rows, ones, scale, window=(0, -1) if causal else None).total[..., 0]

"""A number that is added to all scores, by further elements of queries and keys.

Both elements are bfloat16 numbers; of all pairs whose product is about the number the best is taken, rounding in the machine
included. A second pair adds what the first one leaves.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arith.query_scale import scale_query
from ..compiler.feeding import BIAS_ELEMENTS
from ..spec import Config

__all__ = ["append_bias"]

Bits = NDArray[np.uint16]
#: Key elements that are tried: all significands of a bfloat16 number.
SIGNIFICANDS = 1 + np.arange(128) / 128


def append_bias(config: Config, q: Bits, k: Bits, bias: float, factor: ArrayLike, base: float) -> tuple[Bits, Bits]:
    """Append the elements that add ``bias`` to the scores.

    Parameters
    ----------
    config
        Machine, whose rounding of scaled queries is taken into account.
    q, k
        bfloat16 bits (batch, query heads, P, E) and (batch, key heads, M, E).
    bias
        What is added to scale · q·k.
    factor
        float32 factor of the queries, one number or (batch, query heads, P).
    base
        What of it does not belong to the scale: a score of 1 is this on the machine.

    Returns
    -------
    tuple of array
        Queries and keys with :data:`fusemax.compiler.feeding.BIAS_ELEMENTS` elements more.

    Raises
    ------
    ValueError
        If the bias is too large for an element.
    """
    factors, rows = np.unique(np.asarray(factor, np.float32), return_inverse=True)
    missing = np.full(len(factors), bias * base)
    for _ in range(BIAS_ELEMENTS):
        with np.errstate(over="ignore"):
            wanted = missing / factors.astype(np.float64)
            queries = (wanted[:, None] / SIGNIFICANDS).astype(np.float32).astype(ml_dtypes.bfloat16)
        if not np.isfinite(queries.astype(np.float64)).all():
            raise ValueError(f"the bias {bias:g} of the scores, by their scale, must be finite in bfloat16")
        scaled = scale_query(config, queries.view(np.uint16), factors.view(np.uint32)[:, None])
        exponent = config.query_exponent_bias - scaled.exponent_word - 127 - 16
        added = np.ldexp(scaled.operand.astype(np.float64), exponent) * SIGNIFICANDS
        best = int(np.abs(added - missing[:, None]).max(axis=0).argmin())
        missing = missing - added[:, best]
        key = np.asarray(SIGNIFICANDS[best], np.float32).astype(ml_dtypes.bfloat16).view(np.uint16)
        query = queries[:, best].view(np.uint16)[rows].reshape(np.shape(factor))
        q = np.concatenate([q, np.broadcast_to(query, q.shape[:3])[..., None]], axis=-1)
        k = np.concatenate([k, np.broadcast_to(key, (*k.shape[:3], 1))], axis=-1)
    return q, k

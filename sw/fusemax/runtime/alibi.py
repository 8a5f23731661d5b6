"""ALiBi: scores that fall with the distance between query and key, by further columns of queries and keys.

A key's columns are its position, 256·a and b, both exact in bfloat16; a query's are the slope by the softmax scale, in one
bfloat16 number, or in two where one is not exact. What that adds to all scores of a query alike, slope · (place of the query),
changes nothing but their logarithm of the sum.
"""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arith.query_scale import scale_query
from ..spec import Config

__all__ = ["MOST_KEYS", "Alibi"]

#: Keys that two columns can number.
MOST_KEYS = 1 << 16

Bits = NDArray[np.uint16]


class Alibi:
    """Columns for slopes.

    Parameters
    ----------
    slopes : (query heads,)
    scale
        Softmax scale, of all heads or of each.

    Members
    -------
    columns
        2 if every slope by its scale is a bfloat16 number, else 4.

    Raises
    ------
    ValueError
        If a slope by its scale is too large for bfloat16.
    """

    def __init__(self, slopes: NDArray[np.float32], scale: ArrayLike) -> None:
        wanted = slopes.astype(np.float64) / np.asarray(scale, np.float64)
        with np.errstate(over="ignore"):
            large = wanted.astype(np.float32).astype(ml_dtypes.bfloat16)
        if not np.isfinite(large.astype(np.float64)).all():
            raise ValueError(f"alibi_slopes / scale must be finite in bfloat16, not {wanted.tolist()}")
        small = (wanted - large.astype(np.float64)).astype(np.float32).astype(ml_dtypes.bfloat16)
        self._parts = [part.view(np.uint16) for part in ([large, small] if (small != 0).any() else [large])]
        self.columns = 2 * len(self._parts)

    def extend(self, q: Bits, k: Bits, position: NDArray[np.int64]) -> tuple[Bits, Bits]:
        """Queries (batch, query heads, P, E) and keys (batch, key heads, M, E) with their columns.

        ``position`` numbers the keys, (batch, M).
        """
        position = position[:, None]
        digits = np.stack([position & ~255, position & 255], axis=-1).astype(np.float32).astype(ml_dtypes.bfloat16)
        key_columns = np.tile(digits.view(np.uint16), len(self._parts))
        query_columns = np.repeat(np.stack(self._parts, axis=-1), 2, axis=-1)[:, None]
        return (
            np.concatenate([q, np.broadcast_to(query_columns, (*q.shape[:3], self.columns))], axis=-1),
            np.concatenate([k, np.broadcast_to(key_columns, (*k.shape[:3], self.columns))], axis=-1),
        )

    def added(self, config: Config, factor: NDArray[np.float32], places: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the columns add to the score of a key at the query's own place, as the machine rounds it; natural logarithm.

        ``factor`` is that of the queries to base 2; factor and places broadcast to (batch, query heads, P).
        """
        bits = np.ascontiguousarray(factor).view(np.uint32)
        slope = np.zeros(np.broadcast_shapes(bits.shape, (1, len(self._parts[0]), 1)))
        for part in self._parts:
            scaled = scale_query(config, part[None, :, None], bits)
            exponent = config.query_exponent_bias - scaled.exponent_word - 127 - 16
            slope += np.ldexp(scaled.operand.astype(np.float64), exponent) * math.log(2)
        return slope * places

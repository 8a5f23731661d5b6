"""Scaling of queries while they are loaded: q~ = q · c at 17 significant bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config
from .bf16 import unpack

__all__ = ["MAX_EXPONENT", "OPERAND_BITS", "ScaledQuery", "scale_query"]

#: Bits of a scaled query's two's complement operand.
OPERAND_BITS = 18
#: Largest biased exponent of a scaled query; a larger one sets the overflow flag and is replaced by this one.
MAX_EXPONENT = 254


class ScaledQuery(NamedTuple):
    """Scaled queries: value operand · 2^(Eq - 127 - 16) with Eq = query_exponent_bias - exponent_word."""

    #: 18 bits two's complement, magnitude 2^16 … 2^17-1, or 0.
    operand: NDArray[np.int64]
    #: Config.query_exponent_bias - Eq, 9 bits signed.
    exponent_word: NDArray[np.int64]
    #: The product left the exponent range.
    overflow: NDArray[np.bool_]

    def take(self, index: Any) -> ScaledQuery:
        """Those of an index of the arrays."""
        return ScaledQuery(self.operand[index], self.exponent_word[index], self.overflow[index])

    @property
    def transposed(self) -> ScaledQuery:
        return ScaledQuery(self.operand.T, self.exponent_word.T, self.overflow.T)


def scale_query(config: Config, q_bits: ArrayLike, scale_bits: ArrayLike) -> ScaledQuery:
    """Product of bfloat16 queries and the float32 factor c, rounded to nearest even to 17 bits.

    Below the exponent range (Eq ≤ 0) the result is zero (operand 0, Eq 0); above it (Eq ≥ 255) the flag is
    set and Eq is 254, with the rounded operand. Subnormal operands are zero; exponent 255 is an ordinary exponent.

    Parameters
    ----------
    q_bits
        bfloat16 bits.
    scale_bits
        float32 bits of c; broadcasts with ``q_bits``.
    """
    sig, q_exponent = unpack(q_bits)
    scale = np.asarray(scale_bits).astype(np.int64)
    scale_exponent = scale >> 23 & 0xFF
    scale_sig = np.where(scale_exponent == 0, 0, 1 << 23 | scale & 0x7FFFFF)

    product = np.abs(sig) * scale_sig  # 32 bits; leading one at bit 30 or 31
    upper = product >> 31
    drop = 14 + upper
    kept = product >> drop
    rest = product - (kept << drop)
    half = np.int64(1) << drop - 1
    rounded = kept + ((rest > half) | (rest == half) & (kept & 1 == 1))
    carry = rounded >> 17  # 2^17 becomes 2^16 one exponent higher
    magnitude = rounded >> carry
    exponent = q_exponent + scale_exponent - 127 + upper + carry

    nonzero = (product != 0) & (exponent > 0)
    overflow = nonzero & (exponent > MAX_EXPONENT)
    magnitude = np.where(nonzero, magnitude, 0)
    exponent = np.where(nonzero, np.minimum(exponent, MAX_EXPONENT), 0)
    negative = (sig < 0) ^ (scale >> 31 & 1 == 1)
    return ScaledQuery(np.where(negative, -magnitude, magnitude), config.query_exponent_bias - exponent, overflow)

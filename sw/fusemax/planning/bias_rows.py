"""Biases of scores as the machine reads them: bfloat16 numbers, which it scales, or operands that it takes as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arith.query_scale import MAX_EXPONENT, ScaledQuery
from ..spec import Config
from .pair_rows import bias_beats

__all__ = ["as_operands", "operands_of", "pack_bias"]

#: Bits of an operand, in front of its exponent word.
OPERAND_BITS = 18


def pack_bias(config: Config, numbers: NDArray[np.uint16] | NDArray[np.uint32]) -> NDArray[np.uint8]:
    """Rows of whole bus words for every key tile, (..., bytes), from bfloat16 bits or operands (..., M)."""
    size, rows, keys = numbers.dtype.itemsize, config.rows, numbers.shape[-1]
    tiles = np.zeros((*numbers.shape[:-1], -(-keys // rows) * rows), numbers.dtype)
    tiles[..., :keys] = numbers
    words = bias_beats(config, wide=size == 4) * config.bus_bytes // size
    padded = np.zeros((*numbers.shape[:-1], tiles.shape[-1] // rows, words), numbers.dtype.newbyteorder("<"))
    padded[..., :rows] = tiles.reshape(*numbers.shape[:-1], -1, rows)
    return padded.view(np.uint8).reshape(*numbers.shape[:-1], -1)


def as_operands(config: Config, numbers: NDArray[np.float64]) -> NDArray[np.uint32]:
    """Numbers to base 2 as operands: rounded to nearest even to 17 significant bits, with the exponent word above them.

    Below the exponent's range they are zero; above it, which no score reaches, they are as large as it has.
    """
    fraction, exponent = np.frexp(numbers)
    operand = np.rint(np.ldexp(fraction, 17)).astype(np.int64)
    # 2^17 is 2^16 one exponent higher.
    carry = np.abs(operand) >> 17
    operand >>= carry
    biased = exponent.astype(np.int64) + carry + 126
    nothing = (operand == 0) | (biased <= 0)
    operand = np.where(nothing, 0, operand)
    word = config.query_exponent_bias - np.where(nothing, 0, np.minimum(biased, MAX_EXPONENT))
    return ((operand & (1 << OPERAND_BITS) - 1) | (word & 0x1FF) << OPERAND_BITS).astype(np.uint32)


def operands_of(packed: NDArray[np.uint32]) -> ScaledQuery:
    """What the machine makes of operands of 32 bits."""
    words = packed.astype(np.int64)
    operand, exponent = words & (1 << OPERAND_BITS) - 1, words >> OPERAND_BITS & 0x1FF
    operand -= operand >> OPERAND_BITS - 1 << OPERAND_BITS
    exponent -= exponent >> 8 << 9
    return ScaledQuery(operand, exponent, np.zeros(operand.shape, np.bool_))

"""What belongs to pairs of a query and a key, mask bits and biases, as rows of device memory: a row for a query.

A query head, a batch entry or a query that has what all others have is there once: its stride is zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import Config, ceil_div
from .memory_map import Buffer, Shape, align, alignment

__all__ = ["Bias", "PairRows", "Pairs", "bias_beats", "place_pairs", "seen_tiles", "with_axes"]


def bias_beats(config: Config, *, wide: bool) -> int:
    """Bus words of a query's bias for a key tile."""
    return ceil_div(config.rows * (32 if wide else 16), config.bus_bits)


def with_axes(array: NDArray[Any], leading: tuple[int, ...]) -> NDArray[Any]:
    """``array``, which broadcasts to the leading axes, P and M, as (batch or 1, heads or 1, P or 1, M or 1).

    Several batch axes become one, so an array that has only some of them is repeated along the others.
    """
    array = array.reshape(*(1,) * (len(leading) + 2 - array.ndim), *array.shape)
    if any(size > 1 for size in array.shape[:-3]):
        array = np.broadcast_to(array, (*leading[:-1], *array.shape[-3:]))
    return array.reshape(math.prod(array.shape[:-3]), array.shape[-3] if leading else 1, *array.shape[-2:])


@dataclass(frozen=True)
class PairRows:
    """Rows by batch entry, query head and query.

    Members
    -------
    rows
        Bytes, (batch or 1, query heads or 1, queries or 1, bytes of a row).
    """

    rows: NDArray[np.uint8]

    def buffer(self, address: int, shape: Shape) -> Buffer:
        """Where they lie, one behind the other, in a call of that shape."""
        batch, heads, queries, row_bytes = self.rows.shape
        # Of a part of a call there may be fewer batch entries and heads.
        batch, heads = min(batch, shape.batch), min(heads, shape.heads * shape.share)
        head = queries * row_bytes
        return Buffer(
            address=address,
            row_stride=row_bytes if queries > 1 else 0,
            share_stride=head if heads > 1 else 0,
            head_stride=head * shape.share if heads > 1 else 0,
            batch_stride=head * heads if batch > 1 else 0,
            size=head * heads * batch,
        )


@dataclass(frozen=True)
class Bias:
    """Biases of a call.

    Members
    -------
    rows
        bfloat16 numbers, or operands of 32 bits.
    wide
        They are operands.
    scale
        Factor of bfloat16 numbers, log2(e) included.
    """

    rows: PairRows
    wide: bool
    scale: np.float32


@dataclass(frozen=True)
class Pairs:
    """Mask bits and biases of a call.

    Members
    -------
    mask_rows, bias
        Each, or None if there are none.
    seen_tiles
        :func:`seen_tiles` of the mask; None if there is none.
    """

    mask_rows: PairRows | None = None
    bias: Bias | None = None
    seen_tiles: NDArray[np.bool_] | None = None

    @property
    def rows(self) -> dict[str, PairRows]:
        """Rows that there are, by name: ``m`` and ``b``."""
        found = {"m": self.mask_rows, "b": None if self.bias is None else self.bias.rows}
        return {name: rows for name, rows in found.items() if rows is not None}


def seen_tiles(config: Config, mask_rows: PairRows) -> NDArray[np.bool_]:
    """Tell which key tiles have a key that a query sees in some head of some batch entry: (P or 1, key tiles or some more)."""
    rows = mask_rows.rows
    seen = np.bitwise_or.reduce(rows.reshape(-1, *rows.shape[2:]), axis=0)
    return seen.reshape(len(seen), -1, config.mask_field_bits // 8).any(axis=-1)


def place_pairs(config: Config, pairs: Mapping[str, PairRows], shape: Shape, free: int) -> tuple[dict[str, Buffer], int]:
    """Where the pairs of a call, or part of one, of that shape lie from address ``free`` on, and the address behind them."""
    buffers = {}
    for name, rows in pairs.items():
        buffers[name] = rows.buffer(align(free, alignment(config)), shape)
        free = buffers[name].address + buffers[name].size
    return buffers, free

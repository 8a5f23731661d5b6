"""Arrays of a call in device memory: how rows get there and come back."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planning.memory_map import Buffer, Shape
from ..planning.output_rows import Rows
from ..planning.pair_rows import PairRows
from ..spec import Config
from .host_blocks import Block
from .transport import Transport

__all__ = ["Arrays"]

Bits = NDArray[np.uint16]


class Arrays:
    """Rows of the arrays of a call; where they lie, a :class:`~fusemax.planning.memory_map.Buffer` says."""

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        self._config = config

    def put_rows(self, buffer: Buffer, shape: Shape, name: str, array: Bits) -> None:
        """Copy an array's rows to device memory."""
        elements = array.shape[-1]
        rows = self._rows(buffer, shape, name, elements, 2, shape.header_beats(name))
        rows[...] = array.reshape(*self._row_axes(shape, name), elements)

    def put_scale(self, buffer: Buffer, shape: Shape, factors: ArrayLike) -> None:
        """Factors in front of the rows of the queries, if each has its own."""
        if shape.row_scale:
            scale = np.asarray(factors, np.float32).view(np.uint32)
            self._rows(buffer, shape, "q", 1, 4)[...] = scale.reshape(*self._row_axes(shape, "q"), 1)

    def put_pairs(self, buffer: Buffer, pairs: PairRows) -> None:
        """Copy mask bits or biases to device memory."""
        self._transport.memory[buffer.address : buffer.address + buffer.size] = pairs.rows.reshape(-1)

    def put_block(self, block: Block, address: int, shape: Shape) -> dict[str, Buffer]:
        """Copy a block of the host's memory, and where its arrays are then."""
        self._transport.memory[address : address + block.size] = block.data
        buffers = {}
        for name, place in block.places.items():
            share = shape.rows(name)[0]
            batch_stride, stride, row_stride = place.strides
            size = block.size - place.offset
            buffers[name] = Buffer(address + place.offset, row_stride, stride, share * stride, batch_stride, size)
        return buffers

    def results(self, output: Buffer, shape: Shape) -> Rows:
        """A copy of the output rows in memory, in the same order."""
        rows = shape.batch, shape.heads * shape.share, shape.queries
        header = shape.header_beats("o")

        def copied(elements: int, element_bytes: int, beats: int) -> NDArray[np.unsignedinteger]:
            found = self._rows(output, shape, "o", elements, element_bytes, beats)
            if output.row_stride > output.share_stride:
                # Heads of a position follow each other.
                copy = np.array(found.transpose(0, 3, 1, 2, 4), order="C").reshape(rows[0], rows[2], rows[1], elements)
                return copy.swapaxes(1, 2)
            return np.array(found, order="C").reshape(*rows, elements)

        out = copied(shape.f, shape.output_bytes, header)
        if not header:
            return Rows(out)
        state = np.ascontiguousarray(copied(2, 4, 0))
        return Rows(out, state[..., 0].view(np.int32), state[..., 1].view(np.float32))

    @staticmethod
    def _row_axes(shape: Shape, name: str) -> tuple[int, int, int, int]:
        """Batch entries, key heads, heads of each, rows of each."""
        share, rows, _, _ = shape.rows(name)
        return shape.batch, shape.heads, share, rows

    def _rows(
        self, buffer: Buffer, shape: Shape, name: str, elements: int, element_bytes: int, header_beats: int = 0
    ) -> NDArray[np.unsignedinteger]:
        """Rows of an array in device memory, (batch, key heads, heads of each, rows, elements), as unsigned integers."""
        first = buffer.address + header_beats * self._config.bus_bytes
        words = self._transport.memory[first : buffer.address + buffer.size].view(np.dtype(f"<u{element_bytes}"))
        strides = (buffer.batch_stride, buffer.head_stride, buffer.share_stride, buffer.row_stride, element_bytes)
        return np.lib.stride_tricks.as_strided(words, (*self._row_axes(shape, name), elements), strides)

"""Where the arrays of the call under way lie in device memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..planning.memory_map import Buffer, Shape, align, place_arrays, row_alignment
from ..planning.pair_rows import PairRows, place_pairs
from ..spec import Config
from .device_arrays import Arrays
from .device_memory import DeviceMemory
from .host_blocks import Block
from .values_in_keys import distinct

__all__ = ["Placement"]

NAMES = {"q": "queries", "k": "keys", "v": "values", "o": "outputs", "m": "mask bits", "b": "biases"}

Bits = NDArray[np.uint16]


class Placement:
    """Places the arrays of a call in a gap of the memory, one behind the other, and copies them there."""

    def __init__(self, config: Config, memory: DeviceMemory, arrays: Arrays) -> None:
        self._config, self._memory, self._arrays = config, memory, arrays

    def _addresses(
        self, blocks: Sequence[Block], names: Iterable[str], shape: Shape, free: int
    ) -> Iterator[tuple[str, Block | None, int, int]]:
        """Where the named arrays of a call and its output lie from ``free`` on: name, block that it is in, address, and end."""
        block_of = {name: block for block in blocks for name in block.places}
        placed: set[str] = set()
        for name in (*names, "o"):
            if name in placed:
                continue
            if block := block_of.get(name):
                address = align(free, row_alignment(self._config, block.row_bytes))
                free = address + block.size
                placed |= set(block.places)
                yield name, block, address, free
            else:
                buffer = place_arrays(self._config, shape, free, name)[name]
                free = buffer.address + buffer.size
                yield name, None, buffer.address, free

    def end_of(
        self,
        blocks: Sequence[Block],
        arrays: Mapping[str, Bits],
        shape: Shape,
        free: int,
        pairs: Mapping[str, PairRows] | None = None,
    ) -> int:
        """Return the address behind the arrays of a call, its output, its mask bits and its biases, which begin at ``free``."""
        end = max(end for _, _, _, end in self._addresses(blocks, distinct(arrays), shape, free))
        return place_pairs(self._config, pairs or {}, shape, end)[1]

    def place_pairs(
        self, pairs: Mapping[str, PairRows], shape: Shape, placed: Mapping[str, Buffer], limit: int
    ) -> dict[str, Buffer]:
        """Copy mask bits and biases to device memory, behind what is placed and before ``limit``; returns where they are.

        Raises
        ------
        DeviceMemoryError
            If there is no room for them.
        """
        free = max(buffer.address + buffer.size for buffer in placed.values())
        buffers, _ = place_pairs(self._config, pairs, shape, free)
        for name, buffer in buffers.items():
            self._memory.check_room(NAMES[name], buffer.size, buffer.address + buffer.size, limit)
            self._arrays.put_pairs(buffer, pairs[name])
        return buffers

    def place(
        self, arrays: Mapping[str, Bits], shape: Shape, blocks: Sequence[Block], gap: tuple[int, int]
    ) -> dict[str, Buffer]:
        """Copy arrays to a gap of device memory, some of them in blocks; returns where they and the output are.

        Raises
        ------
        DeviceMemoryError
            If there is no room for them.
        """
        buffers: dict[str, Buffer] = {}
        for name, block, address, end in self._addresses(blocks, distinct(arrays), shape, gap[0]):
            what = NAMES[name] if block is None else " and ".join(NAMES[each] for each in block.places)
            self._memory.check_room(what, end - address, end, gap[1])
            if block is not None:
                buffers |= self._arrays.put_block(block, address, shape)
                continue
            lengths_first = "q" in buffers and buffers["q"].row_stride > buffers["q"].share_stride
            buffers |= place_arrays(self._config, shape, address, name, lengths_first=lengths_first)
            if name in arrays:
                self._arrays.put_rows(buffers[name], shape, name, arrays[name])
        return {**buffers, "v": buffers["k"]} if "v" in arrays and "v" not in buffers else buffers

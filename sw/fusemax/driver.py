"""Driver: device memory, programs, arrays, and the jobs of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from .compiler import compile as compile_program
from .errors import DeviceMemoryError
from .jobs import Keys, describe
from .layout import PAGE_BYTES, Buffer, Shape, align, place_arrays, place_program, ring_size_log2, row_alignment
from .masks import Mask
from .program import Program
from .ring import Deadline, JobRing
from .spec import DESCRIPTOR_STRIDE_BYTES, Config
from .strided import Block, find_blocks
from .transport import Transport

__all__ = ["Call", "Driver", "Rows"]

NAMES = {"q": "queries", "k": "keys", "v": "values", "o": "output"}

Bits = NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Call:
    """What a call asks of the machine.

    Members
    -------
    scale
        Factor of the queries, log2(e) included: one number, or (batch, query heads, queries).
    mask
        Which keys a query sees.
    float32_out
        float32 output, else bfloat16.
    state_out, raw_out
        The rows' states too; numerators instead of outputs.
    timeout, progress
        See :func:`fusemax.attention`.
    """

    scale: np.float32 | NDArray[np.float32]
    mask: Mask = Mask()
    float32_out: bool = False
    state_out: bool = False
    raw_out: bool = False
    timeout: float | None = None
    progress: Callable[[int, int], None] | None = None


@dataclass(frozen=True)
class Rows:
    """Output of a call.

    Members
    -------
    out
        Bits, (batch, query heads, queries, F): uint16 of bfloat16 or uint32 of float32.
    reference, denominator
        RM as int32 and RD as float32, (batch, query heads, queries), if the call asked for states; RD is 0 for a query that
        has seen no key.
    """

    out: NDArray[np.uint16 | np.uint32]
    reference: NDArray[np.int32] | None = None
    denominator: NDArray[np.float32] | None = None


class Driver:
    """Runs attention on an open device.

    What a descriptor says, :mod:`fusemax.jobs` knows; where things lie, :mod:`fusemax.layout`. Memory holds, from its start,
    the ring, programs, and the arrays of the call under way; from its end, what was reserved.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        self._config = config
        size_log2 = ring_size_log2(transport.memory.size)
        self._programs: dict[int, int] = {}
        self._free = DESCRIPTOR_STRIDE_BYTES << size_log2
        self._reserved: dict[int, int] = {}
        self.ring = JobRing(transport, config, size_log2)

    def attention(self, q: Bits, k: Bits, v: Bits, call: Call) -> Rows:
        """Attention of bfloat16 bits (batch, heads, length, head dim); heads of q are a multiple of those of k and v.

        Arrays that lie in memory as rows of whole bus words at strides are copied to the device as they lie.

        Raises
        ------
        DeviceMemoryError, DeviceTimeoutError, DeviceFaultError, NonFiniteError, ScoreOverflowError
            See :func:`fusemax.attention`.
        """
        shape = self._shape(q, k.shape[1], k.shape[2], v.shape[3], call)
        return self._call({"q": q, "k": k, "v": v}, {}, shape, call)

    def attend(self, q: Bits, k: Keys, v: Keys, heads: int, keys: int, f: int, call: Call) -> Rows:
        """The same for keys and values that are in device memory; ``keys`` is the length of the longest entry.

        Raises
        ------
        DeviceMemoryError, DeviceTimeoutError, DeviceFaultError, NonFiniteError, ScoreOverflowError
            See :func:`fusemax.attention`.
        """
        return self._call({"q": q}, {"k": k, "v": v}, self._shape(q, heads, keys, f, call), call)

    def _shape(self, q: Bits, heads: int, keys: int, f: int, call: Call) -> Shape:
        batch, query_heads, queries, e = q.shape
        return Shape(
            batch=batch,
            heads=heads,
            share=query_heads // heads,
            queries=queries,
            keys=keys,
            e=e,
            f=f,
            out_dtype="float32" if call.float32_out else "bfloat16",
            row_scale=np.ndim(call.scale) > 0,
            state_out=call.state_out,
            raw_out=call.raw_out,
        )

    def _call(self, arrays: Mapping[str, Bits], there: Mapping[str, Keys], shape: Shape, call: Call) -> Rows:
        deadline = Deadline(call.timeout)
        self.ring.settle(deadline)
        program = compile_program(head_dim=shape.e, value_dim=shape.f, config=self._config)
        program_address = self._load_program(program)
        buffers = self._place(arrays, shape)
        factor = np.float32(1)
        if shape.row_scale:
            scale = np.asarray(call.scale, np.float32).view(np.uint32)
            self._rows(buffers["q"], shape, "q", 1, 4)[...] = scale.reshape(*self._row_axes(shape, "q"), 1)
        else:
            factor = np.float32(call.scale)
        # Rows of queries that see no key are in no job.
        output = buffers["o"]
        self._transport.memory[output.address : output.address + output.size] = 0

        descriptors = describe(self._config, shape, program, program_address, buffers | there, factor, mask=call.mask)
        self._check_chains(descriptors)
        self.ring.run(descriptors, deadline, call.progress)
        return self._results(output, shape)

    def _check_chains(self, descriptors: list[dict[str, int]]) -> None:
        most = self.ring.longest_chain
        for continues, chain in groupby(descriptors, lambda job: job["continues"]):
            if continues and len(list(chain)) >= most:
                raise DeviceMemoryError(f"the keys of a sequence must be in at most {most} runs of pages on this device")

    # -- arrays ----------------------------------------------------------------------------------------------

    def _place(self, arrays: Mapping[str, Bits], shape: Shape) -> dict[str, Buffer]:
        """Copy arrays to device memory; where they and the output are."""
        movable = {name: array for name, array in arrays.items() if not shape.header_beats(name)}
        blocks = find_blocks(self._config, movable)
        free = self._free
        buffers: dict[str, Buffer] = {}
        for block in blocks:
            address = align(free, row_alignment(self._config, block.row_bytes))
            free = address + block.size
            self._check_room(" and ".join(NAMES[name] for name in block.places), block.size, free)
            buffers |= self._put_block(block, address, shape)
        packed = "".join(name for name in arrays if name not in buffers)
        lengths_first = "q" in buffers and buffers["q"].row_stride > buffers["q"].share_stride
        buffers |= place_arrays(self._config, shape, free, packed + "o", lengths_first=lengths_first)
        for name in packed + "o":
            self._check_room(NAMES[name], buffers[name].size, buffers[name].address + buffers[name].size)
        for name in packed:
            elements = arrays[name].shape[-1]
            rows = self._rows(buffers[name], shape, name, elements, 2, shape.header_beats(name))
            rows[...] = arrays[name].reshape(*self._row_axes(shape, name), elements)
        return buffers

    def _put_block(self, block: Block, address: int, shape: Shape) -> dict[str, Buffer]:
        """Copy a block of the host's memory, and where its arrays are then."""
        self._transport.memory[address : address + block.size] = block.data
        buffers = {}
        for name, place in block.places.items():
            share = shape.rows(name)[0]
            batch_stride, stride, row_stride = place.strides
            size = block.size - place.offset
            buffers[name] = Buffer(address + place.offset, row_stride, stride, share * stride, batch_stride, size)
        return buffers

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

    def _results(self, output: Buffer, shape: Shape) -> Rows:
        """A copy of the output rows in memory, in the same order."""
        rows = shape.batch, shape.heads * shape.share, shape.queries
        header = shape.header_beats("o")

        def copied(elements: int, element_bytes: int, beats: int) -> NDArray[np.unsignedinteger]:
            found = self._rows(output, shape, "o", elements, element_bytes, beats)
            if output.row_stride > output.share_stride:
                # Heads of a position follow each other.
                found = np.ascontiguousarray(found.transpose(0, 3, 1, 2, 4)).reshape(rows[0], rows[2], rows[1], elements)
                return found.swapaxes(1, 2)
            return found.reshape(*rows, elements).copy()

        out = copied(shape.f, shape.output_bytes, header)
        if not header:
            return Rows(out)
        state = np.ascontiguousarray(copied(2, 4, 0))
        return Rows(out, state[..., 0].view(np.int32), state[..., 1].view(np.float32))

    # -- memory ----------------------------------------------------------------------------------------------

    @property
    def _limit(self) -> int:
        """First byte of what was reserved."""
        return min(self._reserved, default=self._transport.memory.size)

    def reserve(self, what: str, size: int) -> int:
        """Address of ``size`` bytes, a multiple of the page size, that are not used for anything else until they are released.

        Raises
        ------
        DeviceMemoryError
            If there is no room; ``what`` is the name in its message.
        """
        size = align(size, PAGE_BYTES)
        end = self._transport.memory.size // PAGE_BYTES * PAGE_BYTES
        for address in sorted(self._reserved, reverse=True):
            if end - (address + self._reserved[address]) >= size:
                break
            end = address
        if end - size < self._free:
            raise DeviceMemoryError(
                f"the {what} need {size} bytes, but the device memory has {max(0, end - self._free)} bytes left"
            )
        self._reserved[end - size] = size
        return end - size

    def release(self, address: int) -> None:
        """Give back what was reserved at an address."""
        del self._reserved[address]

    @property
    def memory(self) -> NDArray[np.uint8]:
        """The device's memory."""
        return self._transport.memory

    def _check_room(self, name: str, size: int, end: int) -> None:
        if end > self._limit:
            reserved = f", {self._transport.memory.size - self._limit} of them reserved" if self._reserved else ""
            raise DeviceMemoryError(
                f"the {name} need {size} bytes and end at {end}, but the device memory has {self._transport.memory.size} "
                f"bytes{reserved}"
            )

    def _load_program(self, program: Program) -> int:
        """Address of the program's first microword; it is written to memory when it is used for the first time."""
        if program.tag not in self._programs:
            image = program.to_bytes()
            words, end = place_program(self._config, program, self._free)
            self._check_room("microwords", len(image), end)
            header = words + len(program.words_bytes) - len(image)
            self._transport.memory[header : header + len(image)] = np.frombuffer(image, np.uint8)
            self._programs[program.tag] = words
            self._free = end
        return self._programs[program.tag]

"""Driver: device memory, programs, arrays, and the jobs of a call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.compilation import compile as compile_program
from ..compiler.program import Program
from ..errors import DeviceMemoryError, ProgramFaultError
from ..planning.descriptors import Keys, describe
from ..planning.masks import Mask
from ..planning.memory_map import Buffer, Shape, align, place_arrays, place_program, ring_size_log2, row_alignment
from ..planning.output_rows import Rows
from ..planning.splitting import Part, PartKeys, Results, split
from ..spec import DESCRIPTOR_STRIDE_BYTES, PAGE_BYTES, Config, Descriptor
from .call_queue import CallQueue, QueuedCall
from .device_arrays import Arrays
from .fair_lock import Turns
from .host_blocks import Block, find_blocks
from .job_ring import Deadline, JobRing
from .transport import Transport

__all__ = ["Call", "Driver", "Pending", "Rows"]

NAMES = {"q": "queries", "k": "keys", "v": "values", "o": "outputs"}

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
    program
        One that the machine can run; the compiler's for attention in one pass if not given.
    """

    scale: np.float32 | NDArray[np.float32]
    mask: Mask = field(default_factory=Mask)
    float32_out: bool = False
    state_out: bool = False
    raw_out: bool = False
    timeout: float | None = None
    progress: Callable[[int, int], None] | None = None
    program: Program | None = None


@dataclass(frozen=True)
class Pending:
    """A call that was submitted: its jobs, its program and output, and the reserved memory that holds its arrays."""

    queued: QueuedCall
    program: Program
    output: Buffer
    shape: Shape
    area: int


class Driver:
    """Runs attention on an open device, for any number of threads.

    Descriptors come from :mod:`fusemax.planning.descriptors`, addresses from :mod:`fusemax.planning.memory_map`.
    From its start, memory holds the ring, programs, and the arrays of the call under way; from its end, what was
    reserved, also for calls that were submitted.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        self._config = config
        self._arrays = Arrays(transport, config)
        size_log2 = ring_size_log2(transport.memory.size)
        self._programs: dict[int, int] = {}
        self._free = DESCRIPTOR_STRIDE_BYTES << size_log2
        self._reserved: dict[int, int] = {}
        self.queue = CallQueue(JobRing(transport, size_log2), config)
        # The call under way has the memory behind the programs, up to an address, also when nobody waits for it any more.
        self._turns = Turns()
        self._under_way: QueuedCall | None = None
        self._arrays_end = 0
        self._forgotten: list[Pending] = []
        # Of what is where in memory.
        self._places = threading.RLock()

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
        with self._turns:
            if self._under_way is not None:
                # It may still write to memory.
                self.queue.wait_end(self._under_way, deadline)
            self._under_way, self._arrays_end = None, 0
            with self._places:
                program = call.program or compile_program(head_dim=shape.e, value_dim=shape.f, config=self._config)
                program_address = self._load_program(program)
                parts, blocks = self._split(arrays, shape)
                if len(parts) > 1:
                    # What is free now stays so until the last part.
                    self._arrays_end = self._limit
            progress = self._progress(call.progress, parts, shape, program, there, call) if call.progress else None
            results = Results(shape, len(parts))
            for part in parts:
                inner = part.shape(shape)
                rows = {name: part.rows(shape, name, array) for name, array in arrays.items()}
                with self._places:
                    buffers = self._place(rows, inner, blocks)
                    self._arrays_end = max(self._arrays_end, *(buffer.address + buffer.size for buffer in buffers.values()))
                scale = part.scale(shape, call.scale)
                self._arrays.put_scale(buffers["q"], inner, scale)
                places = buffers | self._there(there, part)
                descriptors = self._describe(inner, program, program_address, places, scale, part.mask(call.mask))
                # Counters go on from part to part.
                self._under_way = self.queue.add(descriptors, alone=True, measured=part is parts[0])
                try:
                    self.queue.wait(self._under_way, deadline, progress)
                except ProgramFaultError:
                    self._put_program(program, program_address)
                    raise
                except BaseException:
                    self.queue.abandon(self._under_way)
                    raise
                results.put(part, self._arrays.results(buffers["o"], inner))
            return results.rows

    def _split(self, arrays: Mapping[str, Bits], shape: Shape) -> tuple[list[Part], list[Block]]:
        """Parts of a call for which there is room, and blocks of the host's memory to copy if it is one part."""
        # Rows that have something in front of them are packed.
        blocks = find_blocks(self._config, {name: array for name, array in arrays.items() if not shape.header_beats(name)})
        if blocks and self._end_of(blocks, arrays, shape) > self._limit:
            blocks = []
        return split(shape, lambda part: self._end_of(blocks, arrays, part) <= self._limit), blocks

    @staticmethod
    def _there(there: Mapping[str, Keys], part: Part) -> dict[str, Keys]:
        return {name: PartKeys(keys, part) for name, keys in there.items()}

    def _describe(
        self,
        shape: Shape,
        program: Program,
        program_address: int,
        buffers: Mapping[str, Buffer | Keys],
        scale: ArrayLike,
        mask: Mask,
    ) -> list[Descriptor]:
        """The call's jobs; rows of queries that see no key are in none, and are zero."""
        factor = np.float32(1) if shape.row_scale else np.float32(scale)  # type: ignore[arg-type]
        descriptors = describe(self._config, shape, program, program_address, buffers, factor, mask=mask)
        self._check_chains(descriptors)
        written = sum(self._rows_of(job) for job in descriptors if not job.continues)
        if written < shape.batch * shape.heads * shape.share * shape.queries:
            output = buffers["o"]
            assert isinstance(output, Buffer)
            self._transport.memory[output.address : output.address + output.size] = 0
        return descriptors

    def _rows_of(self, job: Descriptor) -> int:
        """Output rows of a job."""
        tiles = job.groups * (job.group_tiles - 1) + job.large_groups
        return job.heads * job.batch * ((tiles - 1) * self._config.columns + job.last_queries)

    def _progress(
        self,
        progress: Callable[[int, int], None],
        parts: list[Part],
        shape: Shape,
        program: Program,
        there: Mapping[str, Keys],
        call: Call,
    ) -> Callable[..., None]:
        """The user's function, told the tiles issued so far and all."""
        tiles = 0
        for part in parts:
            inner = part.shape(shape)
            places = place_arrays(self._config, inner, 0) | self._there(there, part)
            for job in describe(self._config, inner, program, 0, places, mask=part.mask(call.mask)):
                issued = job.key_tiles * (job.groups * (job.group_tiles - 1) + job.large_groups)
                tiles += job.heads * job.batch * issued
        counter = self.queue.ring.counter
        return lambda *_: progress(counter("tiles") + counter("tiles_skipped"), tiles)

    # -- submitted calls ---------------------------------------------------------------------------------------

    def submit(self, q: Bits, k: Bits, v: Bits, call: Call) -> Pending:
        """Queue attention of bfloat16 bits behind what is queued; nobody waits. ``timeout`` and ``progress`` are not used.

        Raises
        ------
        DeviceMemoryError
            If there is no room for the arrays beside those of the calls that are queued.
        """
        shape = self._shape(q, k.shape[1], k.shape[2], v.shape[3], call)
        program = compile_program(head_dim=shape.e, value_dim=shape.f, config=self._config)
        with self._places:
            program_address = self._reserve_program(program)
            relative = place_arrays(self._config, shape, 0)
            area = self.reserve("arrays", max(buffer.address + buffer.size for buffer in relative.values()))
        try:
            buffers = {name: replace(buffer, address=area + buffer.address) for name, buffer in relative.items()}
            for name, array in (("q", q), ("k", k), ("v", v)):
                self._arrays.put_rows(buffers[name], shape, name, array)
            self._arrays.put_scale(buffers["q"], shape, call.scale)
            queued = self.queue.add(self._describe(shape, program, program_address, buffers, call.scale, call.mask))
        except BaseException:
            self.release(area)
            raise
        return Pending(queued, program, buffers["o"], shape, area)

    def take(self, pending: Pending) -> Rows:
        """The result of a submitted call that is complete; its memory is given back. Once only.

        Raises
        ------
        DeviceFaultError, DeviceDrainError, NonFiniteError, ScoreOverflowError
            If it has failed.
        """
        try:
            if isinstance(pending.queued.error, ProgramFaultError):
                self._put_program(pending.program, self._programs[pending.program.tag])
            if pending.queued.error is not None:
                raise pending.queued.error
            return self._arrays.results(pending.output, pending.shape)
        finally:
            self.release(pending.area)

    def forget(self, pending: Pending) -> None:
        """Nobody will wait for a submitted call; its memory is given back when the machine has left it."""
        self.queue.abandon(pending.queued)
        self._forgotten.append(pending)

    def _check_chains(self, descriptors: list[Descriptor]) -> None:
        most = self.queue.longest_chain
        for continues, chain in groupby(descriptors, lambda job: job.continues):
            if continues and len(list(chain)) >= most:
                raise DeviceMemoryError(f"the keys of a sequence must be in at most {most} runs of pages on this device")

    # -- arrays ----------------------------------------------------------------------------------------------

    def _addresses(
        self, blocks: Sequence[Block], names: Iterable[str], shape: Shape
    ) -> Iterator[tuple[str, Block | None, int, int]]:
        """Where the arrays of a call and its output lie, in this order: name, block that it is in, address, and end."""
        block_of = {name: block for block in blocks for name in block.places}
        free = self._free
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

    def _end_of(self, blocks: Sequence[Block], arrays: Mapping[str, Bits], shape: Shape) -> int:
        """Address behind the arrays of a call and its output."""
        return max(end for _, _, _, end in self._addresses(blocks, arrays, shape))

    def _place(self, arrays: Mapping[str, Bits], shape: Shape, blocks: Sequence[Block]) -> dict[str, Buffer]:
        """Copy arrays to device memory, some of them in blocks; where they and the output are."""
        buffers: dict[str, Buffer] = {}
        for name, block, address, end in self._addresses(blocks, arrays, shape):
            self._check_room(
                NAMES[name] if block is None else " and ".join(NAMES[each] for each in block.places), end - address, end
            )
            if block is not None:
                buffers |= self._arrays.put_block(block, address, shape)
                continue
            lengths_first = "q" in buffers and buffers["q"].row_stride > buffers["q"].share_stride
            buffers |= place_arrays(self._config, shape, address, name, lengths_first=lengths_first)
            if name in arrays:
                self._arrays.put_rows(buffers[name], shape, name, arrays[name])
        return buffers

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
        with self._places:
            self._clean_up()
            return self._reserve(what, align(size, PAGE_BYTES))

    def _reserve(self, what: str, size: int) -> int:
        end = self._transport.memory.size // PAGE_BYTES * PAGE_BYTES
        for address in sorted(self._reserved, reverse=True):
            if end - (address + self._reserved[address]) >= size:
                break
            end = address
        used = max(self._free, self._arrays_end)
        if end - size < used:
            raise DeviceMemoryError(f"the {what} need {size} bytes, but the device memory has {max(0, end - used)} bytes left")
        self._reserved[end - size] = size
        return end - size

    def release(self, address: int) -> None:
        """Give back what was reserved at an address."""
        with self._places:
            del self._reserved[address]

    def _clean_up(self) -> None:
        """Give back the memory of calls that nobody waits for and that the machine has left."""
        left = [pending for pending in self._forgotten if pending.queued.complete]
        for pending in left:
            self._forgotten.remove(pending)
            self.release(pending.area)

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
            words, end = place_program(self._config, program, self._free)
            self._check_room("microwords", end - self._free, end)
            self._put_program(program, words)
            self._free = end
        return self._programs[program.tag]

    def _reserve_program(self, program: Program) -> int:
        """The same, when the memory behind the programs may be in use."""
        if program.tag not in self._programs:
            words, end = place_program(self._config, program, 0)
            self._put_program(program, words + self.reserve("microwords", end))
        return self._programs[program.tag]

    def _put_program(self, program: Program, words: int) -> None:
        """Write a program to memory, its microwords to address ``words``: at first, or if something has changed it."""
        image = program.to_bytes()
        header = words + len(program.words_bytes) - len(image)
        self._transport.memory[header : header + len(image)] = np.frombuffer(image, np.uint8)
        self._programs[program.tag] = words

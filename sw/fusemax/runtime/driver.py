"""Driver: device memory, programs, arrays, and the jobs of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.compilation import compile as compile_program
from ..compiler.program import Program
from ..errors import DeviceMemoryError, ProgramFaultError
from ..planning.descriptors import Keys, describe
from ..planning.masks import Mask
from ..planning.memory_map import Buffer, Shape, place_arrays, ring_size_log2
from ..planning.output_rows import Rows
from ..planning.pair_rows import Bias, PairRows, Pairs, place_pairs
from ..planning.splitting import Part, PartKeys, Results, split
from ..spec import DESCRIPTOR_STRIDE_BYTES, Config, Descriptor
from .call_queue import CallQueue, QueuedCall
from .device_arrays import Arrays
from .device_memory import DeviceMemory
from .fair_lock import Turns
from .host_blocks import Block, find_blocks
from .job_ring import Deadline, JobRing
from .placement import Placement
from .program_store import ProgramStore
from .transport import Transport

__all__ = ["Call", "Driver", "Pending", "Rows"]

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
    pairs
        Mask bits and biases of queries and keys.
    """

    scale: np.float32 | NDArray[np.float32]
    mask: Mask = field(default_factory=Mask)
    float32_out: bool = False
    state_out: bool = False
    raw_out: bool = False
    timeout: float | None = None
    progress: Callable[[int, int], None] | None = None
    program: Program | None = None
    pairs: Pairs = field(default_factory=Pairs)


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

    Members
    -------
    memory
        Who has which bytes of the device's memory.
    queue
        The calls' jobs on their way through the ring.
    """

    def __init__(self, transport: Transport, config: Config) -> None:
        self._transport = transport
        self._config = config
        self._arrays = Arrays(transport, config)
        size_log2 = ring_size_log2(transport.memory.size)
        self.memory = DeviceMemory(transport.memory, DESCRIPTOR_STRIDE_BYTES << size_log2)
        self._programs = ProgramStore(config, self.memory)
        self._placement = Placement(config, self.memory, self._arrays)
        self.queue = CallQueue(JobRing(transport, size_log2), config)
        # The call under way has the memory behind the programs, also when nobody waits for it any more.
        self._turns = Turns()
        self._under_way: QueuedCall | None = None
        self._forgotten: list[Pending] = []

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
            self._under_way, self.memory.call_end = None, 0
            with self.memory.lock:
                program = self._program(shape, call)
                program_address = self._programs.load(program)
                parts, blocks = self._split(arrays, shape, call.pairs.rows)
                if len(parts) > 1:
                    # What is free now stays so until the last part.
                    self.memory.call_end = self.memory.limit
            progress = self._progress(call.progress, parts, shape, program, there, call) if call.progress else None
            results = Results(shape, len(parts))
            for part in parts:
                inner = part.shape(shape)
                rows = {name: part.rows(shape, name, array) for name, array in arrays.items()}
                with self.memory.lock:
                    buffers = self._placement.place(rows, inner, blocks)
                    pairs = {name: part.pairs(shape, each) for name, each in call.pairs.rows.items()}
                    buffers |= self._placement.place_pairs(pairs, inner, buffers)
                    self.memory.call_end = max(
                        self.memory.call_end, *(buffer.address + buffer.size for buffer in buffers.values())
                    )
                scale = part.scale(shape, call.scale)
                self._arrays.put_scale(buffers["q"], inner, scale)
                places = buffers | self._there(there, part)
                descriptors = self._describe(
                    inner, program, program_address, places, scale, part.mask(call.mask), call.pairs.bias
                )
                # Counters go on from part to part.
                self._under_way = self.queue.add(descriptors, alone=True, measured=part is parts[0])
                try:
                    self.queue.wait(self._under_way, deadline, progress)
                except ProgramFaultError:
                    self._programs.rewrite(program)
                    raise
                except BaseException:
                    self.queue.abandon(self._under_way)
                    raise
                results.put(part, self._arrays.results(buffers["o"], inner))
            return results.rows

    def _program(self, shape: Shape, call: Call) -> Program:
        """The call's own program, or the compiler's."""
        return call.program or compile_program(
            head_dim=shape.e, value_dim=shape.f, config=self._config, bias=call.pairs.bias is not None
        )

    def _split(self, arrays: Mapping[str, Bits], shape: Shape, pairs: Mapping[str, PairRows]) -> tuple[list[Part], list[Block]]:
        """Parts of a call for which there is room, and blocks of the host's memory to copy if it is one part."""
        # Rows that have something in front of them are packed.
        blocks = find_blocks(self._config, {name: array for name, array in arrays.items() if not shape.header_beats(name)})
        if blocks and self._placement.end_of(blocks, arrays, shape, pairs) > self.memory.limit:
            blocks = []
        return split(shape, lambda part: self._placement.end_of(blocks, arrays, part, pairs) <= self.memory.limit), blocks

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
        bias: Bias | None,
    ) -> list[Descriptor]:
        """The call's jobs; rows of queries that see no key are in none, and are zero."""
        factor = np.float32(1) if shape.row_scale else np.float32(scale)  # type: ignore[arg-type]
        descriptors = describe(self._config, shape, program, program_address, buffers, factor, mask=mask, bias=bias)
        self._check_chains(descriptors)
        written = sum(self._rows_of(job) for job in descriptors if not job.continues)
        if written < shape.batch * shape.heads * shape.share * shape.queries:
            output = buffers["o"]
            assert isinstance(output, Buffer)
            self.memory.data[output.address : output.address + output.size] = 0
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
            places |= place_pairs(self._config, call.pairs.rows, inner, 0)[0]
            for job in describe(self._config, inner, program, 0, places, mask=part.mask(call.mask), bias=call.pairs.bias):
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
        program = self._program(shape, call)
        with self.memory.lock:
            self._clean_up()
            program_address = self._programs.reserve(program)
            relative = place_arrays(self._config, shape, 0)
            behind = max(buffer.address + buffer.size for buffer in relative.values())
            relative |= place_pairs(self._config, call.pairs.rows, shape, behind)[0]
            area = self.reserve("arrays", max(buffer.address + buffer.size for buffer in relative.values()))
        try:
            buffers = {name: replace(buffer, address=area + buffer.address) for name, buffer in relative.items()}
            for name, array in (("q", q), ("k", k), ("v", v)):
                self._arrays.put_rows(buffers[name], shape, name, array)
            self._arrays.put_scale(buffers["q"], shape, call.scale)
            for name, pairs in call.pairs.rows.items():
                self._arrays.put_pairs(buffers[name], pairs)
            queued = self.queue.add(
                self._describe(shape, program, program_address, buffers, call.scale, call.mask, call.pairs.bias)
            )
        except BaseException:
            self.memory.release(area)
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
                self._programs.rewrite(pending.program)
            if pending.queued.error is not None:
                raise pending.queued.error
            return self._arrays.results(pending.output, pending.shape)
        finally:
            self.memory.release(pending.area)

    def reserve(self, what: str, size: int) -> int:
        """Reserve ``size`` bytes of device memory; what forgotten calls had is given back first. Returns their address.

        Raises
        ------
        DeviceMemoryError
            If there is no room; ``what`` is the name in its message.
        """
        with self.memory.lock:
            self._clean_up()
            return self.memory.reserve(what, size)

    def _clean_up(self) -> None:
        """Give back the memory of calls that nobody waits for and that the machine has left."""
        left = [pending for pending in self._forgotten if pending.queued.complete]
        for pending in left:
            self._forgotten.remove(pending)
            self.memory.release(pending.area)

    def forget(self, pending: Pending) -> None:
        """Nobody will wait for a submitted call; its memory is given back when the machine has left it."""
        self.queue.abandon(pending.queued)
        self._forgotten.append(pending)

    def _check_chains(self, descriptors: list[Descriptor]) -> None:
        most = self.queue.longest_chain
        for continues, chain in groupby(descriptors, lambda job: job.continues):
            if continues and len(list(chain)) >= most:
                raise DeviceMemoryError(f"the keys of a sequence must be in at most {most} runs of pages on this device")

"""Driver: device memory, programs, arrays, and the jobs of a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
from numpy.typing import ArrayLike

from ..compiler.compilation import compile as compile_program
from ..compiler.program import Program
from ..errors import DeviceMemoryError, ProgramFaultError, fresh
from ..planning.descriptors import Keys
from ..planning.memory_map import Buffer, Shape, place_arrays, ring_size_log2
from ..planning.output_rows import Rows
from ..planning.pair_rows import place_pairs
from ..planning.splitting import Part, PartKeys, Results
from ..spec import DESCRIPTOR_STRIDE_BYTES, Config, Descriptor
from .call import Bits, Call, PlacedKeys, Work, jobs_of, rows_of, unseen_rows
from .call_queue import CallQueue, QueuedCall
from .device_arrays import Arrays
from .device_memory import DeviceMemory
from .fair_lock import Turns
from .forgotten import Forgotten, Pending, Placed
from .job_ring import Deadline, JobRing
from .placement import Placement
from .program_store import ProgramStore
from .steps import Piece, steps_of
from .transport import Transport
from .values_in_keys import are_in_keys, distinct

__all__ = ["Driver"]


class Driver:
    """Runs attention on an open device, for any number of threads.

    Descriptors come from :mod:`fusemax.planning.descriptors`, addresses from :mod:`fusemax.planning.memory_map`.

    Members
    -------
    memory
        Who has which bytes of the device's memory.
    queue
        The calls' jobs on their way through the ring.
    forgotten
        Submitted calls and reserved areas that nobody wants any more.
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
        self.forgotten = Forgotten(self.queue, self.memory)
        # The call under way keeps its memory, also when nobody waits for it any more.
        self._turns = Turns()
        self._under_way: QueuedCall | None = None

    def attention(self, q: Bits, k: Bits, v: Bits, call: Call) -> Rows:
        """Attention of bfloat16 bits (batch, heads, length, head dim); heads of q are a multiple of those of k and v.

        Arrays that lie in memory as rows of whole bus words at strides are copied to the device as they lie.

        Raises
        ------
        DeviceMemoryError, DeviceTimeoutError, DeviceFaultError, NonFiniteError, ScoreOverflowError
            See :func:`fusemax.attention`.
        """
        if not q.size or not k.size:
            return self._nothing(q, v.shape[3], call)
        shape = self._shape(q, k.shape[1], k.shape[2], v.shape[3], call)
        return self._call([Work({"q": q, "k": k, "v": v}, {}, shape, call)])[0]

    def attend(self, queries: Sequence[PlacedKeys]) -> list[Rows]:
        """The same for keys and values that are in device memory: several batches, whose jobs follow each other.

        Time limit and progress are those of the first.

        Raises
        ------
        DeviceMemoryError, DeviceTimeoutError, DeviceFaultError, NonFiniteError, ScoreOverflowError
            See :func:`fusemax.attention`.
        """
        works = [
            Work(
                {"q": each.q},
                {"k": each.k, "v": each.v},
                self._shape(each.q, each.heads, each.keys, each.f, each.call),
                each.call,
            )
            for each in queries
            if each.q.size
        ]
        found = iter(self._call(works)) if works else iter([])
        return [next(found) if each.q.size else self._nothing(each.q, each.f, each.call) for each in queries]

    def _nothing(self, q: Bits, f: int, call: Call) -> Rows:
        """Rows of a call without a pair of query and key; the counters are cleared as by any other call."""
        deadline = Deadline(call.timeout)
        with self._turns:
            self.queue.wait(self.queue.add([], measured=True), deadline)
        return unseen_rows(q, f, call)

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

    def _call(self, works: Sequence[Work]) -> list[Rows]:
        deadline, since = Deadline(works[0].call.timeout), self.queue.aborts
        with self._turns:
            self.forgotten.clean_up()
            if self._under_way is not None:
                # It may still write to memory.
                self.queue.wait_end(self._under_way, deadline)
            try:
                self._under_way = None
                return self._run(works, deadline, since)
            finally:
                self._give_back_call()

    def _run(self, works: Sequence[Work], deadline: Deadline, since: int) -> list[Rows]:
        with self.memory.lock:
            self.memory.call = None
            programs = [self._program(work.call, work.shape) for work in works]
            addresses = [self._programs.load(program) for program in programs]
            steps, gap = steps_of(self._config, self.memory, self._placement, works)
            # What is free now stays so until the last step.
            self.memory.call = gap
        progress = self._progress(works, programs, steps) if works[0].call.progress else None
        results = [
            Results(work.shape, sum(number == index for step in steps for index, _, _ in step))
            for number, work in enumerate(works)
        ]
        for step in steps:
            descriptors, outputs, free = [], [], gap[0]
            for index, part, blocks in step:
                work, inner = works[index], part.shape(works[index].shape)
                rows = {name: part.rows(work.shape, name, array) for name, array in work.arrays.items()}
                buffers = self._placement.place(rows, inner, blocks, (free, gap[1]))
                pairs = {name: part.pairs(work.shape, each) for name, each in work.call.pairs.rows.items()}
                buffers |= self._placement.place_pairs(pairs, inner, buffers, gap[1])
                free = max(buffer.address + buffer.size for buffer in buffers.values())
                scale = part.scale(work.shape, work.call.scale)
                self._arrays.put_scale(buffers["q"], inner, scale)
                places = buffers | self._there(work.there, part)
                descriptors += self._describe(
                    inner,
                    programs[index],
                    addresses[index],
                    places,
                    scale,
                    replace(work.call, mask=part.mask(work.call.mask)),
                )
                outputs.append(buffers["o"])
            # Counters go on from step to step.
            self._under_way = QueuedCall([], scores=works[0].call.scores, remedy=works[0].call.remedy)
            try:
                self.queue.add(descriptors, alone=True, measured=step is steps[0], since=since, call=self._under_way)
                self.queue.wait(self._under_way, deadline, progress)
            except ProgramFaultError:
                for program in programs:
                    self._programs.rewrite(program)
                raise
            except BaseException:
                self.queue.abandon(self._under_way)
                raise
            for (index, part, _), output in zip(step, outputs, strict=True):
                results[index].put(part, self._arrays.results(output, part.shape(works[index].shape)))
        return [each.rows for each in results]

    def _program(self, call: Call, shape: Shape) -> Program:
        return call.program or compile_program(
            head_dim=shape.e, value_dim=shape.f, config=self._config, bias=call.pairs.bias is not None
        )

    def _give_back_call(self) -> None:
        """Give back the memory of the call under way, if the machine has left it."""
        if self._under_way is None or self._under_way.complete:
            with self.memory.lock:
                self._under_way, self.memory.call = None, None

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
        call: Call,
    ) -> list[Descriptor]:
        """The call's jobs; rows of queries that see no key are in none, and are zero."""
        factor = np.float32(1) if shape.row_scale else np.float32(scale)  # type: ignore[arg-type]
        descriptors = jobs_of(self._config, shape, program, program_address, buffers, factor, call)
        self._check_chains(descriptors)
        written = sum(rows_of(self._config, job) for job in descriptors if not job.continues)
        if written < shape.batch * shape.heads * shape.share * shape.queries:
            output = buffers["o"]
            assert isinstance(output, Buffer)
            self.memory.data[output.address : output.address + output.size] = 0
        return descriptors

    def _progress(
        self, works: Sequence[Work], programs: Sequence[Program], steps: Sequence[Sequence[Piece]]
    ) -> Callable[..., None]:
        """The user's function, told the tiles issued so far and all."""
        progress, tiles = works[0].call.progress, 0
        assert progress is not None
        for index, part, _ in (piece for step in steps for piece in step):
            work, inner = works[index], part.shape(works[index].shape)
            places = _placed_from(self._config, inner, work.arrays) | self._there(work.there, part)
            places |= place_pairs(self._config, work.call.pairs.rows, inner, 0)[0]
            call = replace(work.call, mask=part.mask(work.call.mask))
            for job in jobs_of(self._config, inner, programs[index], 0, places, np.float32(1), call):
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
        since = self.queue.aborts
        if not q.size or not k.size:
            return Pending(self.queue.add([], since=since), unseen_rows(q, v.shape[3], call))
        shape = self._shape(q, k.shape[1], k.shape[2], v.shape[3], call)
        program = self._program(call, shape)
        relative = _placed_from(self._config, shape, {"k": k, "v": v})
        behind = max(buffer.address + buffer.size for buffer in relative.values())
        relative |= place_pairs(self._config, call.pairs.rows, shape, behind)[0]
        area = self.reserve("arrays", max(buffer.address + buffer.size for buffer in relative.values()))
        queued = QueuedCall([], scores=call.scores, remedy=call.remedy)
        output = replace(relative["o"], address=area + relative["o"].address)
        pending = Pending(queued, Placed(program, output, shape, area))
        try:
            with self.memory.lock:
                program_address = self._programs.reserve(program)
            buffers = {name: replace(buffer, address=area + buffer.address) for name, buffer in relative.items()}
            arrays = {"q": q, "k": k, "v": v}
            for name in distinct(arrays):
                self._arrays.put_rows(buffers[name], shape, name, arrays[name])
            self._arrays.put_scale(buffers["q"], shape, call.scale)
            for name, pairs in call.pairs.rows.items():
                self._arrays.put_pairs(buffers[name], pairs)
            descriptors = self._describe(shape, program, program_address, buffers, call.scale, call)
            self.queue.add(descriptors, since=since, call=queued)
        except BaseException:
            # Whatever interrupted this, the machine may be at it.
            self.forgotten.drop(pending)
            raise
        return pending

    def rows(self, pending: Pending) -> Rows:
        """A copy of the result of a submitted call that is complete.

        Raises
        ------
        DeviceFaultError, DeviceDrainError, NonFiniteError, ScoreOverflowError
            If it has failed.
        """
        placed, error = pending.placed, pending.queued.error
        if isinstance(error, ProgramFaultError) and isinstance(placed, Placed):
            self._programs.rewrite(placed.program)
        if error is not None:
            raise fresh(error)
        return placed if isinstance(placed, Rows) else self._arrays.results(placed.output, placed.shape)

    def release(self, pending: Pending) -> None:
        """Give back the memory of a submitted call that is complete."""
        if isinstance(pending.placed, Placed):
            self.memory.release(pending.placed.area)

    def reserve(self, what: str, size: int) -> int:
        """Reserve ``size`` bytes of device memory; what forgotten calls had is given back first. Returns their address.

        Raises
        ------
        DeviceMemoryError
            If there is no room; ``what`` is the name in its message.
        """
        self.forgotten.clean_up()
        self._give_back_left_call()
        try:
            return self.memory.reserve(what, size)
        except DeviceMemoryError:
            if not self.forgotten.wait():
                raise
            return self.memory.reserve(what, size)

    def _give_back_left_call(self) -> None:
        """Give back the memory of a call that ran out of time, if the machine has left it and no other call is under way."""
        if self._under_way is not None and self._under_way.complete and self._turns.try_enter():
            try:
                self._give_back_call()
            finally:
                self._turns.leave()

    def _check_chains(self, descriptors: list[Descriptor]) -> None:
        most = self.queue.longest_chain
        for continues, chain in groupby(descriptors, lambda job: job.continues):
            if continues and len(list(chain)) >= most:
                raise DeviceMemoryError(f"the keys of a sequence must be in at most {most} runs of pages on this device")


def _placed_from(config: Config, shape: Shape, arrays: Mapping[str, Bits]) -> dict[str, Buffer]:
    """Where arrays that are packed lie from address 0 on; values in keys have their place."""
    if "v" in arrays and are_in_keys(arrays["k"], arrays["v"]):
        placed = place_arrays(config, shape, 0, "qko")
        return {**placed, "v": placed["k"]}
    return place_arrays(config, shape, 0)

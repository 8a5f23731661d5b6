"""The model device: registers, descriptor ring and memory as the hardware has them, arithmetic bit for bit.

Queued jobs advance when the host waits for the interrupt or polls STATUS or RING_HEAD, a head at a time. Numbers of
tiles, operations, jobs and bytes are counted on the way. Cycles, waits and empty slots come from the cycle model, for a memory
that answers after 60 cycles with a word a cycle; they are added when the machine is idle again, as if all jobs had been
queued with the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..compiler.feeding import Feeding
from ..compiler.program import Program
from ..spec import MICROWORD, Config, Descriptor
from .bitexact import Head, Segment, attention_head
from .cycles import SLOT_COUNTERS, ring_cycles
from .descriptor_check import settings
from .interpreter import is_softmax, program_head
from .job_memory import Stop, key_rows, query_rows
from .job_pairs import read_bias, read_mask
from .ring_machine import RingMachine
from .tiles import issued_tiles, job_rows, query_tiles, read_beats

__all__ = ["ModelTransport"]

#: Counters that depend on when things happen.
TIME_COUNTERS = ("cycles", "slots_empty", "stall_q", "stall_k", "stall_v", "stall_output", "idle")


def softmax_head(
    config: Config, job: Descriptor, q: NDArray[np.uint16], segments: Sequence[Segment], scale: NDArray[np.float32] | np.float32
) -> Head:
    """Compute softmax attention of a key head's queries; a transport may have another way."""
    return attention_head(config, q, segments, scale)


def output_rows(config: Config, job: Descriptor, result: Head, rows: int) -> NDArray[np.uint8]:
    """Bytes of a head's rows in memory, (rows, bytes), states in front if the job asks for them."""
    out = result.output(bool(job.float32_out), bool(job.raw_out))
    image = out.astype(out.dtype.newbyteorder("<"), copy=False).view(np.uint8).reshape(rows, -1)
    if not job.state_out:
        return image
    state = np.zeros((rows, config.bus_bytes), np.uint8)
    state[:, :4] = result.reference.astype("<i4").view(np.uint8).reshape(rows, 4)
    state[:, 4:8] = result.denominator_bits().astype("<u4").view(np.uint8).reshape(rows, 4)
    return np.concatenate([state, image], axis=1)


class ModelTransport(RingMachine):
    """Transport of the model device."""

    _softmax_head: ClassVar[Callable[..., Any]] = staticmethod(softmax_head)

    def _reset(self) -> None:
        super()._reset()
        self._job: Iterator[None] | None = None
        # Keys of the chain so far.
        self._segments: list[Segment] = []
        # Jobs completed since the machine was idle, the programs that they used, and what was loaded then.
        self._completed: list[Descriptor] = []
        self._programs: dict[int, Program] = {}
        self._loaded_when_idle: tuple[int, ...] | None = None

    # -- machine ---------------------------------------------------------------------------------------------

    @property
    def _works(self) -> bool:
        return self._busy and (self._job is not None or self._next != self._registers["RING_TAIL"])

    def _advance(self) -> None:
        """One head of the oldest job, or its end."""
        if self._job is None:
            self._job = self._run_job()
        if next(self._job, self) is self:
            self._job = None
            if not self._busy:
                self._count_time()

    def _stop(self, stop: Stop) -> None:
        if self._error:
            return
        self._job = None
        # What is there of a chain has no time of its own.
        while self._completed and self._completed[-1].continues:
            self._completed.pop()
        if self._completed:
            self._count_time()
        super()._stop(stop)

    def _run_job(self) -> Iterator[None]:
        """A job, or part of a chain, of which only the last one completes."""
        job = self._fetch_descriptor()
        self._load_program(job)
        flags = bool(job.fixed_reference), bool(job.spare_hold)
        self._loaded = Program(self._config, job.e, job.f, self._program, *flags, Feeding(raw=bool(job.raw_out)))
        slots = _count_slots(self._loaded)
        self._programs[job.program_tag] = self._loaded
        for entry in range(job.batch):
            for head in range(job.heads):
                self._run_head(job, entry, head)
                self._count_head(job, slots)
                yield
        self._completed.append(job)
        self._before = job
        number, self._next = self._next, self._next + 1 & 0xFFFF
        if not job.continues:
            self._complete(job, number)

    def _run_head(self, job: Descriptor, entry: int, head: int) -> None:
        """Keys and values are read; at the end of a chain, or if there is none, queries too, and results are written."""
        config, memory = self._config, self._memory
        rows, keys = job_rows(config, job)
        position = np.arange(rows) // job.share
        k, v = (
            memory.read_rows(key_rows(job, array, entry, head, keys), 2 * elements).view("<u2")
            for array, elements in (("k", job.e), ("k" if job.values_in_keys else "v", job.f))
        )
        bits = read_mask(config, memory, job, entry, head, rows, keys)
        bias = read_bias(config, memory, job, entry, head, rows, keys)
        self._segments.append(Segment(k, v, job.mask_lo + position, job.mask_hi + position, bits, bias))
        header = job.row_scale * config.bus_bytes
        if not job.continued:
            self._queries = memory.read_rows(query_rows(job, "q", entry, head, rows), header + 2 * job.e)
            self._query_job = job
        if job.continues:
            return
        segments, self._segments = self._segments, []
        if self._query_job.row_scale:
            scale = np.ascontiguousarray(self._queries[:, :4]).view("<f4")[:, 0]
        else:
            scale = np.uint32(self._query_job.scale).view(np.float32)
        q = np.ascontiguousarray(self._queries[:, self._query_job.row_scale * config.bus_bytes :]).view("<u2")
        compute = partial(self._softmax_head, config, job) if is_softmax(self._loaded) else partial(program_head, self._loaded)
        result = compute(q, segments, scale)
        for flags in (self._flags, self._job_flags):
            flags["overflow"] |= int(result.overflow)
            flags["nonfinite"] |= int(result.nonfinite)
        image = output_rows(config, job, result, rows)
        memory.write_rows(query_rows(job, "o", entry, head, rows), image)
        self._counters["bytes_written"] += image.size

    # -- counters --------------------------------------------------------------------------------------------

    def _count_head(self, job: Descriptor, slots: dict[str, int]) -> None:
        """What does not depend on time, of one key head of one batch entry."""
        config, counters = self._config, self._counters
        one = replace(job, heads=1, batch=1)
        tiles = issued_tiles(config, one)
        counters["tiles"] += tiles
        counters["tiles_skipped"] += query_tiles(one) * job.key_tiles - tiles
        for name, number in slots.items():
            counters[name] += tiles * number
        counters["bytes_read"] += read_beats(config, one) * config.bus_bytes

    def _count_time(self) -> None:
        """The machine is idle again."""
        counts = ring_cycles(self._config, self._programs, self._completed, loaded=self._loaded_when_idle).values
        for name in TIME_COUNTERS:
            self._counters[name] += counts[name]
        self._mark_time()
        last = self._completed[-1]
        self._loaded_when_idle = settings(last)
        self._completed, self._programs = [], {last.program_tag: self._programs[last.program_tag]}


@lru_cache(maxsize=64)
def _count_slots(program: Program) -> dict[str, int]:
    """What a program issues per tile, by counter. A program that the machine could not run is refused.

    Raises
    ------
    RuleError
        If the program breaks a rule of the machine; hardware would go wrong without a word.
    """
    program.check()
    words = [MICROWORD.unpack(word) for word in program.microwords]
    counts = {name: sum(word["op"] in ops for word in words) for name, ops in SLOT_COUNTERS.items()}
    counts["slots_max"] = sum(word["max"] for word in words)
    return counts

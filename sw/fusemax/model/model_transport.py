"""The model device: registers, descriptor ring and memory as the hardware has them, arithmetic bit for bit.

Queued jobs advance when the host waits for the interrupt or polls STATUS or RING_HEAD, a head at a time. Numbers of
tiles, operations, jobs and bytes are counted on the way. Cycles, waits and empty slots come from the cycle model, for a memory
that answers after 60 cycles with a word a cycle; they are added when the machine is idle again, as if all jobs had been
queued with the first one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..compiler.feeding import Feeding
from ..compiler.program import Program
from ..errors import DeviceClosedError
from ..spec import (
    COUNTERS,
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    EXACT_CAUSES,
    IDENTITY,
    INTERFACE_VERSION,
    JOB_ENTRY,
    JOB_TABLE_ENTRIES,
    MICROWORD,
    PROGRAM_HEADER,
    PROGRAM_MAGIC,
    PROGRAM_VERSION,
    REGISTERS,
    Cause,
    Config,
    Descriptor,
    ceil_div,
    job_entry_offset,
    register,
)
from .bitexact import Head, Segment, attention_head
from .cycles import SLOT_COUNTERS, ring_cycles
from .descriptor_check import is_valid, settings
from .interpreter import is_softmax, program_head
from .job_memory import JobMemory, Stop, key_rows, query_rows
from .job_pairs import read_bias, read_mask
from .tiles import issued_tiles, job_rows, query_tiles, read_beats

__all__ = ["ModelTransport"]

NAMES = {entry.offset: entry.name for entry in REGISTERS}
COUNTER_BASE = 0x100
WORD = 0xFFFF_FFFF
#: Counters that depend on when things happen.
TIME_COUNTERS = ("cycles", "slots_empty", "stall_q", "stall_k", "stall_v", "stall_output", "idle")
#: Registers of an address, which is kept as one number.
ADDRESSES = ("RING_BASE", "READ_WINDOW_FIRST", "READ_WINDOW_LAST", "WRITE_WINDOW_FIRST", "WRITE_WINDOW_LAST")


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


class ModelTransport:
    """Transport of the model device.

    Parameters
    ----------
    config
        The machine.
    memory_bytes
        Size of its memory, zero at first.
    """

    _softmax_head: ClassVar[Callable[..., Any]] = staticmethod(softmax_head)

    def __init__(self, config: Config, memory_bytes: int) -> None:
        self._config = config
        self._memory = JobMemory(config, memory_bytes)
        self._closed = False
        self._registers = {entry.name: 0 for entry in REGISTERS}
        for name in ("SHAPE", "LIMITS", "OPTIONS"):
            layout = register(name).fields
            assert layout is not None
            fields = {field.name: getattr(config, field.name) for field in layout.fields}
            self._registers[name] = layout.pack(fields)
        self._registers |= {"IDENTITY": IDENTITY, "VERSION": INTERFACE_VERSION, "RING_SIZE_LOG2": 1}
        for name in ADDRESSES:
            self._set_address(name, -1 if name.endswith("LAST") else 0)
        self._counters = dict.fromkeys((name for name, _ in COUNTERS), 0)
        self._reset()

    def _reset(self) -> None:
        self._registers |= {"RING_HEAD": 0, "RING_TAIL": 0, "ERROR_CAUSE": 0, "ERROR_JOB": 0}
        self._set_address("ERROR_ADDRESS", 0)
        self._counters |= dict.fromkeys(self._counters, 0)
        self._error = False
        self._flags = {"nonfinite": 0, "overflow": 0}
        self._interrupt = {"done": 0, "error": 0}
        # Completed jobs, as JOB_ENTRY, and the flags since the latest of them.
        self._entries = [JOB_ENTRY.unpack(0) for _ in range(JOB_TABLE_ENTRIES)]
        self._job_flags = {"nonfinite": 0, "overflow": 0}
        self._program: tuple[int, ...] = ()
        self._settings: tuple[int, ...] | None = None
        self._job: Iterator[None] | None = None
        # Job to fetch next, the job before, and the keys of the chain so far.
        self._next = 0
        self._before: Descriptor | None = None
        self._segments: list[Segment] = []
        # Jobs completed since the machine was idle, the programs that they used, and what was loaded then.
        self._completed: list[Descriptor] = []
        self._programs: dict[int, Program] = {}
        self._loaded_when_idle: tuple[int, ...] | None = None

    def _set_address(self, name: str, address: int) -> None:
        address &= (1 << self._config.address_bits) - 1
        self._registers |= {f"{name}_LOW": address & WORD, f"{name}_HIGH": address >> 32}

    def _address(self, name: str) -> int:
        return self._registers[f"{name}_LOW"] | self._registers[f"{name}_HIGH"] << 32

    # -- transport -------------------------------------------------------------------------------------------

    @property
    def memory(self) -> NDArray[np.uint8]:
        self._check_open()
        return self._memory.data

    def read_register(self, offset: int) -> int:
        self._check_open()
        if COUNTER_BASE <= offset < COUNTER_BASE + 8 * len(COUNTERS):
            index, high = divmod(offset - COUNTER_BASE, 8)
            return self._counters[COUNTERS[index][0]] >> (32 if high else 0) & WORD
        if job_entry_offset(0) <= offset < job_entry_offset(0) + 8 * JOB_TABLE_ENTRIES:
            index, high = divmod(offset - job_entry_offset(0), 8)
            return JOB_ENTRY.pack(self._entries[index]) >> (32 if high else 0) & WORD
        name = NAMES.get(offset, "")
        if name in ("STATUS", "RING_HEAD"):
            self._step()
        if name == "STATUS":
            fields = {"busy": int(self._busy), "error": int(self._error), **self._flags, "draining": 0}
            return _pack("STATUS", fields)
        if name == "INTERRUPT":
            return _pack("INTERRUPT", self._interrupt)
        return self._registers.get(name, 0)

    def write_register(self, offset: int, value: int) -> None:
        self._check_open()
        name = NAMES.get(offset, "")
        if name == "CONTROL":
            if value & 1:
                self._reset()
            elif value & 2:
                self._stop(Stop(Cause.ABORT, 0))
        elif name == "INTERRUPT":
            for flag, written in _unpack("INTERRUPT", value).items():
                self._interrupt[flag] &= 1 - written
        elif name == "FLAGS_CLEAR":
            if value & 1:
                self._flags = {"nonfinite": 0, "overflow": 0}
        elif name == "COUNTERS_CLEAR":
            if value & 1:
                self._counters |= dict.fromkeys(self._counters, 0)
        elif name == "RING_TAIL":
            if not self._error:
                self._registers[name] = value & 0xFFFF
                if self._outstanding > 1 << self._registers["RING_SIZE_LOG2"]:
                    self._stop(Stop(Cause.RING, value & 0xFFFF))
        elif name and register(name).access == "rw":
            self._registers[name] = value & WORD
            if (prefix := name.rpartition("_")[0]) in ADDRESSES:
                self._address_written(prefix)

    def _address_written(self, name: str) -> None:
        """Bits that an address does not have are zero."""
        self._set_address(name, self._address(name))
        for cause, prefix in ((Cause.READ, "READ_WINDOW"), (Cause.WRITE, "WRITE_WINDOW")):
            self._memory.windows[cause] = self._address(f"{prefix}_FIRST"), self._address(f"{prefix}_LAST")

    def wait_interrupt(self, timeout_s: float | None, progress: Callable[..., None] | None) -> None:
        self._check_open()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not _pack("INTERRUPT", self._interrupt) & self._registers["INTERRUPT_ENABLE"]:
            if not self._works or (deadline is not None and time.monotonic() >= deadline):
                raise TimeoutError("no interrupt is under way" if not self._works else f"no interrupt within {timeout_s} s")
            self._step()
            if progress is not None:
                progress()
            self._check_open()

    def close(self) -> None:
        self._closed = True  # The memory stays: another thread may be in the midst of a step.

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceClosedError("the model device must be open, but was closed")

    # -- machine ---------------------------------------------------------------------------------------------

    @property
    def _outstanding(self) -> int:
        return (self._registers["RING_TAIL"] - self._registers["RING_HEAD"]) & 0xFFFF

    @property
    def _busy(self) -> bool:
        return not self._error and self._outstanding > 0

    @property
    def _works(self) -> bool:
        """Busy, and not waiting for the rest of a chain."""
        return self._busy and (self._job is not None or self._next != self._registers["RING_TAIL"])

    def _step(self) -> None:
        """One head of the oldest job, or its end."""
        if not self._works:
            return
        try:
            if self._job is None:
                self._job = self._run_job()
            if next(self._job, self) is self:
                self._job = None
                if not self._busy:
                    self._count_time()
        except Stop as stop:
            self._stop(stop)

    def _stop(self, stop: Stop) -> None:
        if self._error:
            return
        self._job = None
        # What is there of a chain has no time of its own.
        while self._completed and self._completed[-1].continues:
            self._completed.pop()
        if self._completed:
            self._count_time()
        self._error = True
        self._interrupt["error"] = 1
        job = self._next if stop.cause in EXACT_CAUSES else self._registers["RING_HEAD"]
        self._registers |= {"ERROR_CAUSE": int(stop.cause), "ERROR_JOB": job}
        self._set_address("ERROR_ADDRESS", stop.address)

    def _run_job(self) -> Iterator[None]:
        """A job, or part of a chain, of which only the last one completes."""
        registers = self._registers
        place = self._address("RING_BASE") & -DESCRIPTOR_STRIDE_BYTES
        place += self._next % (1 << registers["RING_SIZE_LOG2"]) * DESCRIPTOR_STRIDE_BYTES
        job = self._fetch_descriptor(place)
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
        self._next = self._next + 1 & 0xFFFF
        if job.continues:
            return
        self._entries[(self._next - 1) % JOB_TABLE_ENTRIES] = {"cycles": 0, "cycles_high": 0} | self._job_flags
        self._job_flags = {"nonfinite": 0, "overflow": 0}
        self._counters["jobs"] += 1
        registers["RING_HEAD"] = self._next
        if job.interrupt:
            self._interrupt["done"] = 1

    def _fetch_descriptor(self, place: int) -> Descriptor:
        image = int.from_bytes(self._read(place, DESCRIPTOR_BYTES).tobytes(), "little")
        job = Descriptor.unpack(image)
        flags = next(field.bits for field in DESCRIPTOR.fields if field.name == "_flags")
        first = next(offset for offset, field in DESCRIPTOR.placed() if field.name == "_flags")
        if image >> first & (1 << flags) - 1 or not is_valid(self._config, job, self._before):
            raise Stop(Cause.DESCRIPTOR, place)
        return job

    def _load_program(self, job: Descriptor) -> None:
        """Another program, or another output format, finds the machine drained, and the program is read (again)."""
        wanted = settings(job)
        if wanted == self._settings:
            return
        header_bytes = max(PROGRAM_HEADER.bits // 8, self._config.bus_bytes)
        start = job.program_address - header_bytes & (1 << self._config.address_bits) - 1  # As the machine subtracts.
        image = self._read(start, header_bytes + job.ii * MICROWORD.bits // 8)
        header = PROGRAM_HEADER.unpack(
            int.from_bytes(image[header_bytes - PROGRAM_HEADER.bits // 8 : header_bytes].tobytes(), "little")
        )
        expected = {"magic": PROGRAM_MAGIC, "version": PROGRAM_VERSION, "tag": job.program_tag}
        if header != expected | {name: getattr(job, name) for name in ("ii", "e", "f")}:
            raise Stop(Cause.PROGRAM, start)
        self._program = tuple(int(word) for word in image[header_bytes:].view("<u4"))
        self._settings = wanted

    def _run_head(self, job: Descriptor, entry: int, head: int) -> None:
        """Keys and values are read; at the end of a chain, or if there is none, queries too, and results are written."""
        config, memory = self._config, self._memory
        rows, keys = job_rows(config, job)
        position = np.arange(rows) // job.share
        k, v = (
            memory.read_rows(key_rows(job, array, entry, head, keys), 2 * getattr(job, elements)).view("<u2")
            for array, elements in (("k", "e"), ("v", "f"))
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

    def _read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Bytes read from memory, counted in bus words; rows are counted by :meth:`_count_head`."""
        data = self._memory.read(address, size)
        self._counters["bytes_read"] += ceil_div(size, self._config.bus_bytes) * self._config.bus_bytes
        return data

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
        entry = self._entries[(self._registers["RING_HEAD"] - 1) % JOB_TABLE_ENTRIES]
        cycles = self._counters["cycles"]
        entry |= {"cycles": cycles & WORD, "cycles_high": cycles >> 32}
        last = self._completed[-1]
        self._loaded_when_idle = settings(last)
        self._completed, self._programs = [], {last.program_tag: self._programs[last.program_tag]}


def _pack(name: str, fields: dict[str, int]) -> int:
    layout = register(name).fields
    assert layout is not None
    return layout.pack(fields)


def _unpack(name: str, value: int) -> dict[str, int]:
    layout = register(name).fields
    assert layout is not None
    return layout.unpack(value)


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

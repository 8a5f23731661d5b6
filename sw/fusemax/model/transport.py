"""The model device: registers, descriptor ring and memory as the hardware has them, arithmetic bit for bit.

Queued jobs advance when the host waits for the interrupt or polls STATUS or RING_HEAD, a head at a time. Numbers of
tiles, operations, jobs and bytes are counted on the way. Cycles, waits and empty slots come from the cycle model, for a memory
that answers after 60 cycles with a word a cycle; they are added when the machine is idle again, as if all jobs had been
queued with the first one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..errors import DeviceClosedError
from ..program import Program
from ..schedule import check
from ..spec import (
    COUNTERS,
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_MAGIC,
    DESCRIPTOR_STRIDE_BYTES,
    IDENTITY,
    INTERFACE_VERSION,
    MICROWORD,
    REGISTERS,
    Cause,
    Config,
    Op,
    register,
)
from .bitexact import attention
from .cycles import ring_cycles

__all__ = ["ModelTransport"]

NAMES = {entry.offset: entry.name for entry in REGISTERS}
COUNTER_BASE = 0x100
WORD = 0xFFFF_FFFF
SLOT_COUNTERS = {Op.QK: "slots_qk", Op.EXP: "slots_exp", Op.SUM: "slots_sum", Op.SLNV: "slots_slnv"}
#: Counters that depend on when things happen.
TIME_COUNTERS = ("cycles", "slots_empty", "stall_q", "stall_k", "stall_v", "stall_output", "idle")


class _Stop(Exception):
    """The machine stops with a cause and an address."""

    def __init__(self, cause: Cause, address: int) -> None:
        super().__init__(cause, address)
        self.cause = cause
        self.address = address


class ModelTransport:
    """Transport of the model device.

    Parameters
    ----------
    config
        The machine.
    memory_bytes
        Size of its memory, zero at first.
    """

    def __init__(self, config: Config, memory_bytes: int) -> None:
        self._config = config
        self._memory = np.zeros(memory_bytes, np.uint8)
        self._closed = False
        self._registers = {entry.name: 0 for entry in REGISTERS}
        for name, fields in (("SHAPE", {}), ("LIMITS", {})):
            layout = register(name).fields
            assert layout is not None
            fields = {field.name: getattr(config, field.name) for field in layout.fields}
            self._registers[name] = layout.pack(fields)
        self._registers |= {"IDENTITY": IDENTITY, "VERSION": INTERFACE_VERSION, "RING_SIZE_LOG2": 1}
        self._counters = dict.fromkeys((name for name, _ in COUNTERS), 0)
        self._reset()

    def _reset(self) -> None:
        self._registers |= {"RING_HEAD": 0, "RING_TAIL": 0, "ERROR_CAUSE": 0, "ERROR_ADDRESS_LOW": 0, "ERROR_ADDRESS_HIGH": 0}
        self._counters |= dict.fromkeys(self._counters, 0)
        self._error = False
        self._flags = {"nonfinite": 0, "overflow": 0}
        self._interrupt = {"done": 0, "error": 0}
        self._program: tuple[int, ...] = ()
        self._loaded: tuple[int, int] | None = None
        self._job: Iterator[None] | None = None
        # Jobs completed since the machine was idle, the programs that they used, and what was loaded then.
        self._completed: list[dict[str, int]] = []
        self._programs: dict[int, Program] = {}
        self._loaded_when_idle: tuple[int, int] | None = None

    # -- transport -------------------------------------------------------------------------------------------

    @property
    def memory(self) -> NDArray[np.uint8]:
        self._check_open()
        return self._memory

    def read_register(self, offset: int) -> int:
        self._check_open()
        if COUNTER_BASE <= offset < COUNTER_BASE + 8 * len(COUNTERS):
            index, high = divmod(offset - COUNTER_BASE, 8)
            return self._counters[COUNTERS[index][0]] >> (32 if high else 0) & WORD
        name = NAMES.get(offset, "")
        if name in ("STATUS", "RING_HEAD"):
            self._step()
        if name == "STATUS":
            fields = {"busy": int(self._busy), "error": int(self._error), **self._flags}
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
        elif name == "INTERRUPT":
            for flag, written in _unpack("INTERRUPT", value).items():
                self._interrupt[flag] &= 1 - written
        elif name == "FLAGS_CLEAR":
            if value & 1:
                self._flags = {"nonfinite": 0, "overflow": 0}
        elif name == "COUNTERS_CLEAR":
            if value & 1:
                self._counters |= dict.fromkeys(self._counters, 0)
        elif name and register(name).access == "rw":
            self._registers[name] = value & (0xFFFF if name == "RING_TAIL" else WORD)

    def wait_interrupt(self, timeout_s: float | None, progress: Callable[..., None] | None) -> None:
        self._check_open()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not _pack("INTERRUPT", self._interrupt) & self._registers["INTERRUPT_ENABLE"]:
            if not self._busy or (deadline is not None and time.monotonic() >= deadline):
                raise TimeoutError("no interrupt is under way" if not self._busy else f"no interrupt within {timeout_s} s")
            self._step()
            if progress is not None:
                progress()

    def close(self) -> None:
        self._closed = True
        self._memory = np.zeros(0, np.uint8)

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceClosedError("the model device must be open, but was closed")

    # -- machine ---------------------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return not self._error and self._registers["RING_HEAD"] != self._registers["RING_TAIL"]

    def _step(self) -> None:
        """One head of the oldest job, or its end."""
        if not self._busy:
            return
        try:
            if self._job is None:
                self._job = self._run_job()
            if next(self._job, self) is self:
                self._job = None
                if not self._busy:
                    self._count_time()
        except _Stop as stop:
            self._job = None
            if self._completed:
                self._count_time()
            self._error = True
            self._interrupt["error"] = 1
            self._registers |= {
                "ERROR_CAUSE": int(stop.cause),
                "ERROR_ADDRESS_LOW": stop.address & WORD,
                "ERROR_ADDRESS_HIGH": stop.address >> 32,
            }

    def _run_job(self) -> Iterator[None]:
        registers = self._registers
        base = registers["RING_BASE_LOW"] | registers["RING_BASE_HIGH"] << 32
        place = base + registers["RING_HEAD"] % (1 << registers["RING_SIZE_LOG2"]) * DESCRIPTOR_STRIDE_BYTES
        job = DESCRIPTOR.unpack(int.from_bytes(self._read(place, DESCRIPTOR_BYTES).tobytes(), "little"))
        self._check_descriptor(job, place)
        self._load_program(job)
        slots = _count_slots(self._program, self._config, job["e"], job["f"])
        self._programs[job["program_tag"]] = Program(self._config, job["e"], job["f"], self._program)
        for entry in range(job["batch"]):
            for head in range(job["heads"]):
                self._run_head(job, entry, head)
                self._count_head(job, slots)
                yield
        self._completed.append(job)
        self._counters["jobs"] += 1
        registers["RING_HEAD"] = registers["RING_HEAD"] + 1 & 0xFFFF
        if job["interrupt"]:
            self._interrupt["done"] = 1

    def _check_descriptor(self, job: dict[str, int], place: int) -> None:
        config = self._config
        large, small = job["large_groups"], job["groups"] - job["large_groups"]
        if not (
            job["magic"] == DESCRIPTOR_MAGIC
            and 1 <= job["e"] <= config.max_e
            and 1 <= job["f"] <= config.max_f
            and 1 <= job["ii"] <= config.program_words
            and job["heads"] >= 1
            and job["batch"] >= 1
            and job["key_tiles"] >= 1
            and 1 <= job["last_keys"] <= config.rows
            and 1 <= job["last_queries"] <= config.columns
            and large >= 1
            and small >= 0
            and (job["group_tiles"] >= 2 or (small == 0 and job["group_tiles"] == 1))
            and job["group_tiles"] <= config.resident_query_tiles(job["e"], job["f"])
            and job["group_tiles"] <= job["query_slots"] <= config.query_bank_beats // config.beats(job["e"])
            and 1 <= job["output_slots"] <= config.output_beats // config.beats(job["f"], 4 if job["float32_out"] else 2)
            and job["group_iterations"] == job["key_tiles"] * job["group_tiles"]
        ):
            raise _Stop(Cause.DESCRIPTOR, place)

    def _load_program(self, job: dict[str, int]) -> None:
        """Another program, or another output format, finds the machine drained, and the program is read (again)."""
        loaded = job["program_tag"], job["float32_out"]
        if loaded == self._loaded:
            return
        words = self._read(job["program_address"], job["ii"] * MICROWORD.bits // 8).view("<u4")
        self._program = tuple(int(word) for word in words)
        self._loaded = loaded

    def _run_head(self, job: dict[str, int], entry: int, head: int) -> None:
        e, f = job["e"], job["f"]
        queries, keys = _lengths(job, self._config)
        q = self._read_rows(job, "q", entry, head, queries, e)
        k = self._read_rows(job, "k", entry, head, keys, e)
        v = self._read_rows(job, "v", entry, head, keys, f)
        scale = np.uint32(job["scale"]).view(np.float32)
        result = attention(self._config, q, k, v, scale, bool(job["float32_out"]))
        self._flags["overflow"] |= int(result.overflow)
        self._flags["nonfinite"] |= int(result.nonfinite)
        element_bytes = 4 if job["float32_out"] else 2
        out = np.ascontiguousarray(result.out_bits, f"<u{element_bytes}").view(np.uint8).reshape(queries, f * element_bytes)
        for row, address in enumerate(_row_addresses(job, "o", entry, head, queries)):
            self._window(address, out.shape[1], Cause.WRITE)[...] = out[row]
        self._counters["bytes_written"] += out.size

    # -- memory ----------------------------------------------------------------------------------------------

    def _window(self, address: int, size: int, cause: Cause) -> NDArray[np.uint8]:
        """A piece of memory; accesses are bus words, so the first one outside is what the bus answers with an error."""
        if address + size > self._memory.size:
            first = max(address, self._memory.size) // self._config.bus_bytes * self._config.bus_bytes
            raise _Stop(cause, first)
        return self._memory[address : address + size]

    def _read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Bytes read from memory, counted in bus words."""
        data = self._window(address, size, Cause.READ)
        self._counters["bytes_read"] += -(-size // self._config.bus_bytes) * self._config.bus_bytes
        return data

    def _read_rows(
        self, job: dict[str, int], array: str, entry: int, head: int, rows: int, elements: int
    ) -> NDArray[np.uint16]:
        """Rows of bfloat16 bits; :meth:`_count_head` counts them, since keys and values are read once per group."""
        data = np.empty((rows, 2 * elements), np.uint8)
        for row, address in enumerate(_row_addresses(job, array, entry, head, rows)):
            data[row] = self._window(address, 2 * elements, Cause.READ)
        return data.view("<u2")

    # -- counters --------------------------------------------------------------------------------------------

    def _count_head(self, job: dict[str, int], slots: dict[str, int]) -> None:
        config, counters = self._config, self._counters
        queries, keys = _lengths(job, config)
        tiles = job["key_tiles"] * _query_tiles(job)
        counters["tiles"] += tiles
        for name, number in slots.items():
            counters[name] += tiles * number
        beats = queries * config.beats(job["e"]) + job["groups"] * keys * (config.beats(job["e"]) + config.beats(job["f"]))
        counters["bytes_read"] += beats * config.bus_bytes

    def _count_time(self) -> None:
        """The machine is idle again."""
        counts = ring_cycles(self._config, self._programs, self._completed, loaded=self._loaded_when_idle).values
        for name in TIME_COUNTERS:
            self._counters[name] += counts[name]
        last = self._completed[-1]
        self._loaded_when_idle = last["program_tag"], last["float32_out"]
        self._completed, self._programs = [], {last["program_tag"]: self._programs[last["program_tag"]]}


def _pack(name: str, fields: dict[str, int]) -> int:
    layout = register(name).fields
    assert layout is not None
    return layout.pack(fields)


def _unpack(name: str, value: int) -> dict[str, int]:
    layout = register(name).fields
    assert layout is not None
    return layout.unpack(value)


def _query_tiles(job: dict[str, int]) -> int:
    return job["groups"] * (job["group_tiles"] - 1) + job["large_groups"]


def _lengths(job: dict[str, int], config: Config) -> tuple[int, int]:
    """Queries and keys of a head."""
    queries = (_query_tiles(job) - 1) * config.columns + job["last_queries"]
    return queries, (job["key_tiles"] - 1) * config.rows + job["last_keys"]


def _row_addresses(job: dict[str, int], array: str, entry: int, head: int, rows: int) -> Iterator[int]:
    first = job[f"{array}_address"] + entry * job[f"{array}_batch_stride"] + head * job[f"{array}_head_stride"]
    return (first + row * job[f"{array}_row_stride"] for row in range(rows))


@lru_cache(maxsize=64)
def _count_slots(program: tuple[int, ...], config: Config, e: int, f: int) -> dict[str, int]:
    """What a program issues per tile, by counter. A program that the machine could not run is refused.

    Raises
    ------
    RuleError
        If the program breaks a rule of the machine; hardware would go wrong without a word.
    """
    check(program, config, e, f)
    words = [MICROWORD.unpack(word) for word in program]
    counts = {name: sum(word["op"] == op for word in words) for op, name in SLOT_COUNTERS.items()}
    counts["slots_max"] = sum(word["max"] for word in words)
    return counts

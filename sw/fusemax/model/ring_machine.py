"""Registers, ring of descriptors and interrupt as the hardware has them; what does the jobs is another's business."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

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
from .descriptor_check import is_valid, settings
from .job_memory import JobMemory, Stop

__all__ = ["RingMachine"]

NAMES = {entry.offset: entry.name for entry in REGISTERS}
COUNTER_BASE = 0x100
WORD = 0xFFFF_FFFF
#: Registers of an address, which is kept as one number.
ADDRESSES = ("RING_BASE", "READ_WINDOW_FIRST", "READ_WINDOW_LAST", "WRITE_WINDOW_FIRST", "WRITE_WINDOW_LAST")


class RingMachine:
    """Transport of a machine that lives in this process. Jobs go on when the host waits for the interrupt, or polls STATUS or
    RING_HEAD.

    Those who inherit it say in ``_advance`` what is done then, and in ``_works`` whether there is something to do.

    Parameters
    ----------
    config
        The machine.
    memory_bytes
        Size of its memory, zero at first.
    """

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
        # Job to fetch next, and the job before.
        self._next = 0
        self._before: Descriptor | None = None

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
            self._pause(deadline)

    def _pause(self, deadline: float | None) -> None:
        """Wait a little for what is done elsewhere, up to that time at most."""

    def close(self) -> None:
        self._closed = True  # The memory stays: another thread may be in the midst of a step.

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceClosedError("the device must be open, but was closed")

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
        raise NotImplementedError

    def _advance(self) -> None:
        """Do a little of the jobs; raise Stop if the machine stops."""
        raise NotImplementedError

    def _step(self) -> None:
        if not self._works:
            return
        try:
            self._advance()
        except Stop as stop:
            self._stop(stop)

    def _stop(self, stop: Stop) -> None:
        if self._error:
            return
        self._error = True
        self._interrupt["error"] = 1
        job = self._next if stop.cause in EXACT_CAUSES else self._registers["RING_HEAD"]
        self._registers |= {"ERROR_CAUSE": int(stop.cause), "ERROR_JOB": job}
        self._set_address("ERROR_ADDRESS", stop.address)

    def _fetch_descriptor(self) -> Descriptor:
        """The next job's."""
        place = self._address("RING_BASE") & -DESCRIPTOR_STRIDE_BYTES
        place += self._next % (1 << self._registers["RING_SIZE_LOG2"]) * DESCRIPTOR_STRIDE_BYTES
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
        header_bytes = self._header_bytes
        start, size = self._program_place(job)
        image = self._read(start, size)
        header = PROGRAM_HEADER.unpack(
            int.from_bytes(image[header_bytes - PROGRAM_HEADER.bits // 8 : header_bytes].tobytes(), "little")
        )
        expected = {"magic": PROGRAM_MAGIC, "version": PROGRAM_VERSION, "tag": job.program_tag}
        if header != expected | {name: getattr(job, name) for name in ("ii", "e", "f")}:
            raise Stop(Cause.PROGRAM, start)
        self._program = tuple(int(word) for word in image[header_bytes:].view("<u4"))
        self._settings = wanted

    @property
    def _header_bytes(self) -> int:
        """Bytes of a program in front of its first microword."""
        return max(PROGRAM_HEADER.bits // 8, self._config.bus_bytes)

    def _program_place(self, job: Descriptor) -> tuple[int, int]:
        """Address and bytes of a job's program."""
        start = job.program_address - self._header_bytes & (1 << self._config.address_bits) - 1  # As the machine subtracts.
        return start, self._header_bytes + job.ii * MICROWORD.bits // 8

    def _complete(self, job: Descriptor, number: int) -> None:
        """All jobs up to that number are complete; ``job`` is the last one."""
        self._entries[number % JOB_TABLE_ENTRIES] = {"cycles": 0, "cycles_high": 0} | self._job_flags
        self._job_flags = {"nonfinite": 0, "overflow": 0}
        self._counters["jobs"] += 1
        self._registers["RING_HEAD"] = number + 1 & 0xFFFF
        if job.interrupt:
            self._interrupt["done"] = 1

    def _mark_time(self) -> None:
        """Write the counter of cycles to the entry of the job that is complete."""
        cycles = self._counters["cycles"]
        entry = self._entries[(self._registers["RING_HEAD"] - 1) % JOB_TABLE_ENTRIES]
        entry |= {"cycles": cycles & WORD, "cycles_high": cycles >> 32}

    def _read(self, address: int, size: int) -> NDArray[np.uint8]:
        """Bytes read from memory, counted in bus words."""
        data = self._memory.read(address, size)
        self._counters["bytes_read"] += ceil_div(size, self._config.bus_bytes) * self._config.bus_bytes
        return data


def _pack(name: str, fields: dict[str, int]) -> int:
    layout = register(name).fields
    assert layout is not None
    return layout.pack(fields)


def _unpack(name: str, value: int) -> dict[str, int]:
    layout = register(name).fields
    assert layout is not None
    return layout.unpack(value)

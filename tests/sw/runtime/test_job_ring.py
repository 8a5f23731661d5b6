"""JobRing: what it writes to registers and descriptors, and how it counts jobs beyond 16 bits."""

from __future__ import annotations

import numpy as np
import pytest

from fusemax.errors import (
    AbortFaultError,
    DescriptorFaultError,
    DeviceFaultError,
    ProgramFaultError,
    ReadFaultError,
    RingFaultError,
    WatchdogFaultError,
    WindowFaultError,
    WriteFaultError,
)
from fusemax.runtime.job_ring import Deadline, JobRing
from fusemax.spec import (
    DESCRIPTOR,
    DESCRIPTOR_STRIDE_BYTES,
    JOB_ENTRY,
    JOB_TABLE_ENTRIES,
    REGISTERS,
    Cause,
    Descriptor,
    job_entry_offset,
    register,
)

NAMES = {entry.offset: entry.name for entry in REGISTERS}
ENTRIES = range(job_entry_offset(0), job_entry_offset(0) + 8 * JOB_TABLE_ENTRIES)


class Registers:
    """Registers that keep what is written, and a memory."""

    def __init__(self) -> None:
        self.memory = np.zeros(1 << 16, np.uint8)
        self.values = dict.fromkeys(NAMES.values(), 0)
        self.writes: list[tuple[str, int]] = []
        self.entries_read: list[int] = []

    def read_register(self, offset: int) -> int:
        if offset in ENTRIES:
            index, half = divmod(offset - ENTRIES.start, 8)
            self.entries_read.append(index)
            return JOB_ENTRY.pack({"cycles": index + 1, "cycles_high": 2, "nonfinite": 1}) >> 8 * half & 0xFFFF_FFFF
        return self.values[NAMES[offset]]

    def write_register(self, offset: int, value: int) -> None:
        assert 0 <= value < 1 << 32
        self.writes.append((NAMES[offset], value))
        self.values[NAMES[offset]] = value


@pytest.fixture
def registers() -> Registers:
    return Registers()


@pytest.fixture
def ring(registers: Registers) -> JobRing:
    found = JobRing(registers, 4)  # type: ignore[arg-type]
    found.start()
    registers.writes.clear()
    return found


def test_start(registers: Registers) -> None:
    ring = JobRing(registers, 4)  # type: ignore[arg-type]
    ring.watchdog_cycles = 1234
    ring.queued = ring.complete = 7
    ring.start()
    assert (ring.queued, ring.complete, ring.room) == (0, 0, 16)
    assert registers.writes[0] == ("CONTROL", 1)
    expected = {
        "RING_BASE_LOW": 0,
        "READ_WINDOW_FIRST_LOW": 0,
        "READ_WINDOW_LAST_LOW": (1 << 16) - 1,
        # The ring itself is not for results.
        "WRITE_WINDOW_FIRST_LOW": 16 * DESCRIPTOR_STRIDE_BYTES,
        "WRITE_WINDOW_LAST_LOW": (1 << 16) - 1,
        "RING_SIZE_LOG2": 4,
        "WATCHDOG": 1234,
        "INTERRUPT_ENABLE": 3,
    }
    assert {name: registers.values[name] for name in expected} == expected
    assert not any(registers.values[name] for name in registers.values if name.endswith("_HIGH"))


def test_the_doorbell_is_rung_once_for_what_was_put(ring: JobRing, registers: Registers) -> None:
    ring.ring()
    ring.put(Descriptor(magic=5))
    ring.put(Descriptor(magic=6))
    assert registers.writes == []
    ring.ring()
    ring.ring()
    assert registers.writes == [("RING_TAIL", 2)]
    # After a start jobs are counted anew.
    ring.start()
    ring.put(Descriptor(magic=5))
    ring.put(Descriptor(magic=6))
    ring.ring()
    assert registers.writes.count(("RING_TAIL", 2)) == 2
    at = DESCRIPTOR_STRIDE_BYTES
    assert DESCRIPTOR.unpack(int.from_bytes(registers.memory[at : at + 192].tobytes(), "little"))["magic"] == 6


def test_numbers_go_on_beyond_16_bits(ring: JobRing, registers: Registers) -> None:
    ring.queued = ring.complete = ring._rung = 0x1_FFFE
    for _ in range(3):
        ring.put(Descriptor())
    ring.ring()
    assert registers.writes == [("RING_TAIL", 1)]
    registers.values["RING_HEAD"] = 0xFFFF
    assert list(ring.collect()) == [0x1_FFFE]
    registers.values["RING_HEAD"] = 1
    assert list(ring.collect()) == [0x1_FFFF, 0x2_0000]
    assert (ring.complete, ring.room) == (0x2_0001, 16)


@pytest.mark.parametrize(("before", "head"), [(0, 5000), (3, 0x1003), (0xFFF0, 0x0FF0)])
def test_many_jobs_at_once(ring: JobRing, registers: Registers, before: int, head: int) -> None:
    """All that are complete are counted; of the table only the entries that it still has are read, each once."""
    ring.queued = ring.complete = before
    registers.values["RING_HEAD"] = head
    entries = ring.collect()
    assert ring.complete - before == (head - before) % (1 << 16)
    assert list(entries) == list(range(ring.complete - JOB_TABLE_ENTRIES, ring.complete))
    assert sorted(registers.entries_read) == sorted([*range(JOB_TABLE_ENTRIES)] * 2)
    for number, entry in entries.items():
        assert entry["cycles"] == number % JOB_TABLE_ENTRIES + 1
    assert registers.writes == [("INTERRUPT", 3)]


FAULTS = {
    Cause.READ: ReadFaultError,
    Cause.WRITE: WriteFaultError,
    Cause.DESCRIPTOR: DescriptorFaultError,
    Cause.PROGRAM: ProgramFaultError,
    Cause.WINDOW: WindowFaultError,
    Cause.TIMEOUT: WatchdogFaultError,
    Cause.ABORT: AbortFaultError,
    Cause.RING: RingFaultError,
}


def test_every_cause_has_an_exception_of_its_own() -> None:
    assert set(FAULTS) == set(Cause) - {Cause.NONE}
    assert len(set(FAULTS.values())) == len(FAULTS)
    assert type(DeviceFaultError.of(Cause.NONE, 0, 0)) is DeviceFaultError


@pytest.mark.parametrize("cause", FAULTS)
def test_faults(ring: JobRing, registers: Registers, cause: Cause) -> None:
    ring.queued = ring.complete = 0x1_FFFE
    registers.values |= {"ERROR_CAUSE": int(cause), "ERROR_JOB": 1, "ERROR_ADDRESS_LOW": 0xFFFF_0008, "ERROR_ADDRESS_HIGH": 5}
    assert ring.fault() is None
    layout = register("STATUS").fields
    assert layout is not None
    registers.values["STATUS"] = layout.pack({"error": 1})
    fault = ring.fault()
    assert type(fault) is FAULTS[cause]
    assert (fault.cause, fault.address, fault.job) == (cause, 0x5_FFFF_0008, 0x2_0001)
    assert str(fault) == f"the machine stopped at job 131073: {fault.meaning}, address 0x5ffff0008"


def test_deadline() -> None:
    assert Deadline(None).remaining is None and not Deadline(None).over
    assert Deadline(np.float32(1e-9)).over  # type: ignore[arg-type]
    assert 99 < Deadline(np.float32(100)).remaining <= 100  # type: ignore[arg-type, operator]

"""The machine's registers and its ring of jobs, as the host uses them; the ring is at address 0."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from ..errors import DeviceDrainError, DeviceFaultError
from ..spec import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    JOB_ENTRY,
    JOB_TABLE_ENTRIES,
    Cause,
    Descriptor,
    counter_offset,
    job_entry_offset,
    register,
)
from .transport import Transport

__all__ = ["DRAIN_SECONDS", "WATCHDOG_CYCLES", "Deadline", "JobRing"]

#: Cycles without a word read, a write answered or a slot issued after which the machine stops; memories answer much earlier.
WATCHDOG_CYCLES = 1_000_000
#: Time for the bursts that the memory has accepted to end after a reset.
DRAIN_SECONDS = 5.0


class Deadline:
    """Time limit of a call, from now on; ``timeout`` in seconds, None for no limit."""

    def __init__(self, timeout: float | None) -> None:
        self.timeout = timeout
        self._end = None if timeout is None else time.monotonic() + float(timeout)

    @property
    def remaining(self) -> float | None:
        """Seconds that are left, at least 0."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    @property
    def over(self) -> bool:
        return self.remaining == 0


class JobRing:
    """Registers, descriptors, doorbell. Jobs are numbered from 0 since the last start, without end.

    One thread at a time may call.

    Parameters
    ----------
    transport
        The device.
    size_log2
        log2 of the ring's number of descriptors.

    Members
    -------
    queued, complete
        Numbers of jobs that were put into the ring, and that are complete, as far as known.
    watchdog_cycles
        Value of the register WATCHDOG from the next start on.
    """

    def __init__(self, transport: Transport, size_log2: int) -> None:
        self._transport = transport
        self._size_log2 = size_log2
        self.watchdog_cycles = WATCHDOG_CYCLES
        self.queued = self.complete = self._rung = 0

    # -- registers -------------------------------------------------------------------------------------------

    def read(self, name: str) -> int:
        return self._transport.read_register(register(name).offset)

    def write(self, name: str, value: int) -> None:
        self._transport.write_register(register(name).offset, value)

    def status(self) -> dict[str, int]:
        """Fields of STATUS."""
        layout = register("STATUS").fields
        assert layout is not None
        return layout.unpack(self.read("STATUS"))

    def counter(self, name: str) -> int:
        low = self._transport.read_register(counter_offset(name))
        return low | self._transport.read_register(counter_offset(name) + 4) << 32

    # -- machine ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Empty the machine, wait for the bursts that its memory has accepted, and tell it where the ring is.

        Nothing but the memory behind the ring may be written, and nothing behind the memory read.

        Raises
        ------
        DeviceDrainError
            If the memory does not answer; the machine takes no job then.
        """
        self.empty()
        for name, value in (
            ("RING_BASE", 0),
            ("READ_WINDOW_FIRST", 0),
            ("WRITE_WINDOW_FIRST", self.capacity * DESCRIPTOR_STRIDE_BYTES),
        ):
            self._write_address(name, value)
        for name in ("READ_WINDOW_LAST", "WRITE_WINDOW_LAST"):
            self._write_address(name, self._transport.memory.size - 1)
        self.write("RING_SIZE_LOG2", self._size_log2)
        self.write("WATCHDOG", self.watchdog_cycles)
        self.write("INTERRUPT_ENABLE", 3)

    def empty(self) -> None:
        """Empty the machine, which keeps what :meth:`start` has told it; raises as that."""
        self.queued = self.complete = self._rung = 0
        self.write("CONTROL", 1)
        deadline = Deadline(DRAIN_SECONDS)
        while self.status()["draining"]:
            if deadline.over:
                raise DeviceDrainError("the machine must be empty after its reset, but its memory does not answer")
        self.write("INTERRUPT", 3)

    def _write_address(self, name: str, value: int) -> None:
        self.write(f"{name}_LOW", value & 0xFFFF_FFFF)
        self.write(f"{name}_HIGH", value >> 32)

    def abort(self) -> None:
        """Stop the machine; whoever waits for it finds a fault."""
        self.write("CONTROL", 2)

    def fault(self) -> DeviceFaultError | None:
        """Why the machine has stopped, if it has."""
        if not self.status()["error"]:
            return None
        address = self.read("ERROR_ADDRESS_LOW") | self.read("ERROR_ADDRESS_HIGH") << 32
        job = self.complete + ((self.read("ERROR_JOB") - self.complete) & 0xFFFF)
        return DeviceFaultError.of(Cause(self.read("ERROR_CAUSE")), address, job)

    # -- jobs ------------------------------------------------------------------------------------------------

    @property
    def capacity(self) -> int:
        """Jobs that the ring holds; also the most that can continue each other, since none is complete before the last one."""
        return 1 << self._size_log2

    @property
    def room(self) -> int:
        """Jobs that can be put now."""
        return self.capacity - (self.queued - self.complete)

    def put(self, descriptor: Descriptor) -> None:
        """A descriptor behind the last one; the doorbell is not rung."""
        address = self.queued % self.capacity * DESCRIPTOR_STRIDE_BYTES
        image = descriptor.pack().to_bytes(DESCRIPTOR_BYTES, "little")
        self._transport.memory[address : address + DESCRIPTOR_BYTES] = np.frombuffer(image, np.uint8)
        self.queued += 1

    def ring(self) -> None:
        """The doorbell, if there are jobs that it was not rung for."""
        if self._rung != self.queued:
            self.write("RING_TAIL", self.queued & 0xFFFF)
            self._rung = self.queued

    def wait(self, timeout: float | None, progress: Callable[..., None] | None) -> None:
        """Wait until a job that asked for it is complete, or the machine has stopped.

        Raises
        ------
        TimeoutError
            If neither happens within ``timeout`` seconds.
        """
        self._transport.wait_interrupt(timeout, progress)

    def collect(self) -> dict[int, dict[str, int]]:
        """Take the interrupt back and look how far the machine has come.

        Returns
        -------
        Fields of :data:`fusemax.spec.JOB_ENTRY` of the jobs that are complete now and were not before, by number, as far as the
        table still has them. Of jobs that continue each other only the last one's mean something.
        """
        self.write("INTERRUPT", 3)
        before, self.complete = self.complete, self.complete + ((self.read("RING_HEAD") - self.complete) & 0xFFFF)
        entries = {}
        for job in range(max(before, self.complete - JOB_TABLE_ENTRIES), self.complete):
            low, high = (self._transport.read_register(job_entry_offset(job) + half) for half in (0, 4))
            entries[job] = JOB_ENTRY.unpack(low | high << 32)
        return entries

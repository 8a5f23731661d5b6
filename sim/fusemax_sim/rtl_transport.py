"""Host's way to a device simulated from its RTL: registers, shared memory, interrupt."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fusemax.errors import ForkedDeviceError
from fusemax.runtime.fair_lock import Turns
from fusemax.spec import Config, config_named, register

from .bench_commands import Command, Reply, Request
from .build import build
from .errors import ProtocolViolation, RegisterError, SimulationTimeout
from .memory import Failure, Memory
from .process import START_SECONDS, SimulatorProcess
from .saved_view import write_saved_views
from .waveform import Waveform

__all__ = ["RtlTransport"]

#: A wait is cut into pieces of about this long, after each of which progress is reported and the time looked at.
PIECE_SECONDS = 0.1
FIRST_PIECE_CYCLES = 100
LONGEST_PIECE_CYCLES = 1_000_000
LONGEST_SECONDS = 1e6
RESPONSES = {2: "SLVERR", 3: "DECERR"}


class RtlTransport:
    """A device under Verilator, alone with a memory; context manager.

    Simulated time passes only during register accesses, waits and :meth:`step`: a run with the same calls takes the same
    cycles, whatever the host does between them. Accesses of several threads come one after the other; any may :meth:`close`.

    Parameters
    ----------
    config : Config or str
        Configuration, or the name of one.
    memory : Memory
        Timing of the memory.
    trace : Path or None
        File for a waveform, ``*.fst`` or ``*.vcd``; complete after :meth:`close`. Saved views for GTKWave and Surfer are
        written beside it (:mod:`fusemax_sim.saved_view`).
    memory_bytes : int
        Size of the memory, from address 0; a multiple of the bus word.
    verilog : Path or None
        Directory of ``*.v`` files to simulate, instead of what :mod:`fusemax_hw` emits for ``config``.
    executable : Path or None
        What :func:`fusemax_sim.build.build` has given for this configuration without a waveform, if it is known already.
    trace_depth : int or None
        Levels of the hierarchy in the waveform, from 1; :data:`fusemax_sim.waveform.DEFAULT_DEPTH` if None.
    trace_cycles : (int, int) or None
        First and last cycle in the waveform; None is all.

    Members
    -------
    memory : numpy.ndarray
        The memory's bytes (uint8, ``memory_bytes`` long), shared with the simulator without copying.

    Raises
    ------
    BuildError
        If the simulator cannot be built.
    SimulatorDied
        From every method, if the simulator's process has ended.
    ForkedDeviceError, ReentrantCallError
        From every access in a fork of the process, and in a signal handler that has interrupted another access.
    ProtocolViolation
        From every access, if the device has broken a rule of AXI; stays until the device is closed.
    ValueError
        If the memory is not as wide as the device's bus, ``memory_bytes`` is not a positive multiple of the bus word, or the
        trace's ending, depth or cycles are wrong.
    OSError
        If the trace cannot be written.
    """

    memory: NDArray[np.uint8]

    def __init__(
        self,
        config: Config | str,
        memory: Memory | None = None,
        trace: str | Path | None = None,
        memory_bytes: int = 1 << 26,
        *,
        verilog: Path | None = None,
        executable: Path | None = None,
        trace_depth: int | None = None,
        trace_cycles: tuple[int, int] | None = None,
    ) -> None:
        self.config = config_named(config)
        timing = Memory() if memory is None else memory
        timing.check_width(self.config.bus_bits)
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        if memory_bytes <= 0 or memory_bytes % self.config.bus_bytes:
            raise ValueError(f"memory_bytes must be a positive multiple of {self.config.bus_bytes}, not {memory_bytes!r}")
        waveform = None if trace is None else Waveform(trace, trace_depth, trace_cycles)
        if waveform is not None:
            waveform.check_writable()
        elif trace_depth is not None or trace_cycles is not None:
            raise ValueError("trace must be a path if trace_depth or trace_cycles is given")
        if executable is None:
            executable = build(self.config, waveform, verilog=verilog)
        arguments = [*timing.plusargs(), f"+doorbell={register('RING_TAIL').offset}"]
        if waveform is not None:
            arguments += waveform.plusargs()
            if verilog is None:
                write_saved_views(self.config, waveform)
        file = os.memfd_create("fusemax-memory")
        try:
            os.ftruncate(file, memory_bytes)
            # The array keeps the mapping alive, also after close().
            self.memory = np.frombuffer(mmap.mmap(file, memory_bytes), dtype=np.uint8)
            self._simulator = SimulatorProcess(executable, arguments, file)
        finally:
            os.close(file)
        self._process = os.getpid()
        self._lock = Turns()
        self._reply_owed = False
        self._traced = waveform is not None
        self._state = Reply(0, 0, False, 0, 0, b"")
        self._piece_cycles = FIRST_PIECE_CYCLES
        try:
            # The first command runs through reset; how long Python takes to start in there depends on the machine.
            self._exchange(Request(Command.RUN, cycles=1), START_SECONDS)
        except BaseException:
            self.close()
            raise

    # -- device ------------------------------------------------------------------------------------------------

    def read_register(self, offset: int) -> int:
        """The 32-bit register at a byte offset. Raises RegisterError if the device answers with an error."""
        return self._access(Request(Command.READ, address=check_offset(offset))).result

    def write_register(self, offset: int, value: int) -> None:
        """Write a 32-bit register. Raises RegisterError if the device answers with an error."""
        if not 0 <= value < 1 << 32:
            raise ValueError(f"value must be from 0 to 2^32 - 1, not {value!r}")
        self._access(Request(Command.WRITE, address=check_offset(offset), data=int(value)))

    def wait_interrupt(
        self,
        timeout_s: float | None = None,
        progress: Callable[[int], None] | None = None,
        *,
        max_cycles: int | None = None,
    ) -> None:
        """Run until the interrupt pin is high; returns at once if it is.

        Parameters
        ----------
        timeout_s
            Longest wait in seconds of the host.
        progress
            Called with :attr:`cycle` about ten times a second. It may read registers, which takes cycles of its own.
        max_cycles
            Longest wait in cycles of the device.

        Raises
        ------
        SimulationTimeout
            If the interrupt does not come in time.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        last_cycle = None if max_cycles is None else self.cycle + max_cycles
        while True:
            cycles = self._piece_cycles
            if last_cycle is not None:
                cycles = min(cycles, last_cycle - self.cycle)
            self._run(Request(Command.WAIT, cycles=cycles), deadline)
            if progress is not None:
                progress(self.cycle)
            if self._state.interrupt:
                return
            if last_cycle is not None and self.cycle >= last_cycle:
                raise SimulationTimeout(f"the interrupt did not come within {max_cycles} cycles (cycle {self.cycle})")
            if deadline is not None and time.monotonic() >= deadline:
                raise SimulationTimeout(f"the interrupt did not come within {timeout_s} s (cycle {self.cycle})")

    def step(self, cycles: int) -> None:
        """Run exactly ``cycles`` cycles."""
        last_cycle = self.cycle + cycles
        while self.cycle < last_cycle:
            self._run(Request(Command.RUN, cycles=min(self._piece_cycles, last_cycle - self.cycle)), None)

    def fail(self, failure: Failure, after: int = 0, *, decode_error: bool = False) -> None:
        """From now on the memory fails, after so many words, responses or addresses of the kind have gone well.

        One way at a time: it replaces an earlier one. No time passes.

        Parameters
        ----------
        failure
            How; ``Failure.NONE`` to end it.
        after
            How many go well before.
        decode_error
            Errors are DECERR, not SLVERR.
        """
        if not 0 <= after < 1 << 32:
            raise ValueError(f"after must be from 0 to 2^32 - 1, not {after!r}")
        response = next(code for code, name in RESPONSES.items() if (name == "DECERR") == decode_error)
        self._exchange(Request(Command.FAIL, address=Failure(failure), data=int(after), cycles=response), START_SECONDS)

    @property
    def interrupt(self) -> bool:
        """The interrupt pin after the last access."""
        return self._state.interrupt

    @property
    def cycle(self) -> int:
        """Cycles since the end of reset."""
        return self._state.cycle

    @property
    def testbench_cycles(self) -> int:
        """Cycles from the doorbell (a write to RING_TAIL is accepted) to the interrupt's rise, counted outside the device.

        A doorbell while a count is running does not start it anew. 0 before the first doorbell.
        """
        return self._state.job_cycles

    # -- simulator ---------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the simulator; :attr:`memory` stays readable. Does nothing the second time, or in a fork of the process."""
        if os.getpid() != self._process:
            return
        if self._traced:
            self._simulator.stop()
        else:
            self._simulator.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _access(self, request: Request) -> Reply:
        reply = self._exchange(request, None)
        if reply.response in RESPONSES:
            verb = "read" if request.command == Command.READ else "write"
            raise RegisterError(f"register {verb} at offset {request.address:#x} was answered with {RESPONSES[reply.response]}")
        return reply

    def _run(self, request: Request, deadline: float | None) -> None:
        """Exchange one piece of a longer run, and fit the next piece's length to the time it took."""
        before, start = self.cycle, time.monotonic()
        # A piece ends in time by itself; a simulator that hangs does not.
        self._exchange(request, None if deadline is None else max(0.0, deadline - start) + START_SECONDS)
        cycles_per_second = (self.cycle - before) / max(time.monotonic() - start, 1e-6)
        fitting = int(cycles_per_second * PIECE_SECONDS)
        self._piece_cycles = max(1, min(fitting, 2 * self._piece_cycles, LONGEST_PIECE_CYCLES))

    def _exchange(self, request: Request, timeout_s: float | None) -> Reply:
        """Send a request and take its reply. Raises SimulationTimeout, SimulatorDied, ProtocolViolation, ForkedDeviceError."""
        if os.getpid() != self._process:
            raise ForkedDeviceError(self._process)
        with self._lock:
            if self._reply_owed:  # Ctrl-C came between a request and its reply.
                self._take_reply(START_SECONDS)
            self._reply_owed = True
            self._simulator.send(request)
            reply = self._take_reply(timeout_s)
        if reply.violation:
            raise ProtocolViolation(f"{reply.violation.decode()} (cycle {reply.cycle})")
        return reply

    def _take_reply(self, timeout_s: float | None) -> Reply:
        # The system does not take any number of seconds.
        reply = self._simulator.receive(None if timeout_s is None else min(timeout_s, LONGEST_SECONDS))
        if reply is None:
            self.close()
            raise SimulationTimeout(f"the simulator did not answer within {timeout_s:.0f} s and was ended")
        self._state = reply
        self._reply_owed = False
        return reply


def check_offset(offset: int) -> int:
    """``offset`` if it is a register's.

    Raises
    ------
    ValueError
        If it is not a multiple of 4 below 4096.
    """
    if not 0 <= offset < 4096 or offset % 4:
        raise ValueError(f"offset must be a multiple of 4 from 0 to 4092, not {offset!r}")
    return int(offset)

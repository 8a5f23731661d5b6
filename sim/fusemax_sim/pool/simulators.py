"""Simulators in a process of a cluster: a piece takes one that is free, or begins one, and leaves it for the next piece."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fusemax.errors import MismatchError
from fusemax.runtime.device import check_machine
from fusemax.runtime.job_ring import JobRing
from fusemax.spec import COUNTERS, Cause, Config, counter_offset

from ..emission import emission_digest
from ..errors import SimulatorDied
from ..memory import Memory
from ..rtl_transport import RtlTransport
from .piece import Piece, PieceResult

__all__ = ["Machine", "PieceStopped", "begin_simulator", "end_simulators", "run_piece", "stop_pieces"]

#: A piece is begun this many times if simulators die under it.
ATTEMPTS = 3
#: A simulator that had nothing to do for so long is ended: its pool may be gone.
IDLE_SECONDS = 60.0
#: Counters of a piece; its jobs are counted where they are cut.
COUNTED = [name for name, _ in COUNTERS if name != "jobs"]


class PieceStopped(Exception):
    """Nobody wants the result of a piece any more."""


@dataclass(frozen=True)
class Machine:
    """Machine of a pool.

    Members
    -------
    pool
        Name of the pool; no other has it.
    config, memory, memory_bytes
        Of each simulator.
    executable
        Of the simulator, in the pool's own process; None in others, which find or build it.
    digest
        Of what the Verilog is made from, for other processes to compare with; None in the pool's own.
    """

    pool: str
    config: Config
    memory: Memory | None
    memory_bytes: int
    executable: Path | None
    digest: str | None


class Simulator:
    """A simulator, for one piece after the other."""

    def __init__(self, transport: RtlTransport) -> None:
        self._transport = transport
        self._told: tuple[int, int] | None = None

    def run(self, piece: Piece, check: Callable[[], None]) -> PieceResult:
        """Run a piece on a machine that has forgotten what was before; ``check`` is called now and then.

        Every access to a register takes simulated time, so there are no more of them than need be.
        """
        memory = self._transport.memory
        for places, rows in piece.reads:
            places.put(memory, rows)
        ring = self._empty(piece)
        for job in piece.jobs:
            ring.put(job)
        ring.ring()
        ring.wait(None, lambda _: check())
        status = ring.status()
        flags = {name: status[name] for name in ("nonfinite", "overflow")}
        if (fault := ring.fault() if status["error"] else None) is not None:
            none = np.empty((0, piece.output.size), np.uint8)
            return PieceResult(none, self._counters(ring), flags, (Cause(fault.cause), fault.address))
        return PieceResult(piece.output.of(memory), self._counters(ring), flags)

    def _empty(self, piece: Piece) -> JobRing:
        told = piece.ring_size_log2, piece.watchdog_cycles
        if self._told == told:
            self._ring.empty()
        else:
            self._ring = JobRing(self._transport, piece.ring_size_log2)
            self._ring.watchdog_cycles = piece.watchdog_cycles
            self._ring.start()
            self._told = told
        return self._ring

    def _counters(self, ring: JobRing) -> dict[str, int]:
        cycles = ring.counter("cycles")
        # None grows by more than a bus word in a cycle.
        if cycles * self._transport.config.bus_bytes >> 32:
            return {name: ring.counter(name) for name in COUNTED}
        return {name: self._transport.read_register(counter_offset(name)) for name in COUNTED}

    def close(self) -> None:
        """End it."""
        self._transport.close()


class Simulators:
    """A pool's simulators in this process; for any number of threads.

    Members
    -------
    stopped
        Pieces of this turn, and of earlier ones, need not be done.
    ended
        The pool is closed.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._idle: list[Simulator] = []
        self._all: set[Simulator] = set()
        self._timer: threading.Timer | None = None
        self.stopped = -1
        self.ended = False

    def begin(self) -> Simulator:
        """Begin a simulator.

        Raises
        ------
        MismatchError
            If the Verilog would be another one here.
        BuildError, SimulatorDied
            As :class:`fusemax_sim.RtlTransport`.
        """
        machine = self._machine
        if machine.digest is not None and (digest := emission_digest(machine.config)) != machine.digest:
            raise MismatchError(f"all workers must have the sources of the pool's Verilog, {machine.digest}, not {digest}")
        where = {"memory_bytes": machine.memory_bytes, "executable": machine.executable}
        transport = RtlTransport(machine.config, machine.memory, **where)
        simulator = Simulator(transport)
        try:
            check_machine(transport.read_register, machine.config)
        except BaseException:
            simulator.close()
            raise
        with self._lock:
            self._all.add(simulator)
        self._check_open(simulator)
        return simulator

    def run(self, piece: Piece, check: Callable[[], None]) -> PieceResult:
        """Run a piece on a simulator that nobody uses."""
        simulator = self._take()
        clean = False
        try:
            result = simulator.run(piece, check)
            clean = result.fault is None
        finally:
            if not clean:
                self._drop(simulator)
        if clean:
            self.give_back(simulator)
        return result

    def _take(self) -> Simulator:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._idle:
                return self._idle.pop()
        return self.begin()

    def give_back(self, simulator: Simulator) -> None:
        """Leave an empty machine for the next piece."""
        with self._lock:
            self._idle.append(simulator)
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(IDLE_SECONDS, self.end_idle)
            self._timer.daemon = True
            self._timer.start()
        self._check_open(simulator)

    def _drop(self, simulator: Simulator) -> None:
        """End a simulator whose machine may be at something."""
        with self._lock:
            self._all.discard(simulator)
        simulator.close()

    def end_idle(self) -> None:
        """End those that nobody uses."""
        with self._lock:
            idle, self._idle = self._idle, []
        for simulator in idle:
            self._drop(simulator)

    def end(self) -> None:
        """End all of them; pieces that are under way fail."""
        with self._lock:
            self.ended = True
            if self._timer is not None:
                self._timer.cancel()
            everyone, self._all, self._idle = list(self._all), set(), []
        for simulator in everyone:
            simulator.close()

    def _check_open(self, simulator: Simulator) -> None:
        """The pool may have been closed meanwhile."""
        if self.ended:
            self._drop(simulator)
            raise PieceStopped("the pool was closed")


POOLS: dict[str, Simulators] = {}
#: Names of pools that were closed.
ENDED: set[str] = set()
LOCK = threading.Lock()


def simulators_of(machine: Machine) -> Simulators:
    """The pool's simulators in this process."""
    with LOCK:
        if machine.pool in ENDED:
            raise PieceStopped("the pool was closed")
        return POOLS.setdefault(machine.pool, Simulators(machine))


def begin_simulator(machine: Machine) -> None:
    """Begin a simulator for the pieces to come; raises as :meth:`Simulators.begin`."""
    simulators = simulators_of(machine)
    simulators.give_back(simulators.begin())


def stop_pieces(pool: str, turn: int) -> None:
    """Stop the pieces of a turn, and of earlier ones."""
    with LOCK:
        simulators = POOLS.get(pool)
    if simulators is not None:
        simulators.stopped = max(simulators.stopped, turn)


def end_simulators(pool: str) -> None:
    """End the pool's simulators in this process, for good."""
    with LOCK:
        ENDED.add(pool)
        simulators = POOLS.pop(pool, None)
    if simulators is not None:
        simulators.end()


def run_piece(machine: Machine, piece: Piece) -> PieceResult:
    """Run a piece; again if its simulator dies.

    Raises
    ------
    SimulatorDied
        If the simulator has died under it :data:`ATTEMPTS` times.
    PieceStopped
        If nobody wants the result any more.
    SimulationError, MismatchError
        As :class:`fusemax_sim.RtlTransport`, and :meth:`Simulators.begin`.
    """
    simulators = simulators_of(machine)

    def check() -> None:
        if simulators.ended or piece.turn <= simulators.stopped:
            raise PieceStopped(f"turn {piece.turn} has ended")

    for attempt in range(1, ATTEMPTS + 1):
        check()
        try:
            return simulators.run(piece, check)
        except SimulatorDied as error:
            check()
            if attempt == ATTEMPTS:
                raise SimulatorDied(f"{ATTEMPTS} simulators have died under the same part of a call; {error}") from error
    raise AssertionError

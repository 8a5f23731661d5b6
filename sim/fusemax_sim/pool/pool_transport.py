"""The device of a pool: registers, ring and memory in this process, its jobs on simulators of a Dask cluster.

A job is cut into pieces of some heads each. A piece is run by a machine that has just been reset, wherever one is free, and
its result is taken when all pieces before it are done. So results, errors and counters do not depend on the number of workers.
Counters are those of the simulators, added up; jobs, and bytes of descriptors and programs, count once as on one device.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fusemax.model.job_memory import Stop
from fusemax.model.ring_machine import RingMachine
from fusemax.spec import DESCRIPTOR_BYTES, Cause, Config, Descriptor, ceil_div

from ..memory import Memory
from .piece import Piece, RowPlaces, cut_heads, cut_jobs, output_places, read_places
from .workers import Order, Workers

__all__ = ["PoolTransport"]

#: Pieces that are sent ahead, for each that can run at a time.
AHEAD = 3
#: A wait ends after so long, so that progress is told and a time limit kept.
PAUSE_SECONDS = 0.05


@dataclass(frozen=True)
class Unit:
    """A piece, as the ring knows it.

    Members
    -------
    piece
        What a simulator does.
    number
        Of its job in the ring, modulo 2^16.
    job
        The last one of its chain, if this is the job's last piece.
    overhead
        Bytes of descriptors and program that its simulator reads.
    """

    piece: Piece
    number: int
    job: Descriptor | None
    overhead: int


class PoolTransport(RingMachine):
    """Transport to a pool of simulators that are one device.

    Parameters
    ----------
    config
        Configuration.
    memory
        Timing of the memory of each simulator. If it stalls at random, times differ from run to run.
    memory_bytes
        Size of the memory.
    workers
        Simulators on this machine.
    scheduler
        Address of a running ``dask scheduler``, instead; its workers need the same version of this package.

    Raises
    ------
    ValueError
        If ``workers`` is less than 1, or given with ``scheduler``, or the memory is not as wide as the device's bus.
    MissingExtraError
        If Dask is not installed.
    OSError
        If the scheduler does not answer, or has no workers.
    BuildError, SimulatorDied, MismatchError
        If a worker cannot simulate this device.
    WorkerLost, SimulatorDied
        From :meth:`wait_interrupt`, if workers or simulators are lost again and again; the next call begins anew.
    """

    def __init__(
        self,
        config: Config,
        memory: Memory | None = None,
        memory_bytes: int = 1 << 26,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
    ) -> None:
        if memory is not None:
            memory.check_width(config.bus_bits)
        self._turn = 0
        self._units: deque[tuple[Unit, Order]] = deque()
        super().__init__(config, memory_bytes)
        self._workers = Workers(config, memory, memory_bytes, workers, scheduler)

    # -- transport -------------------------------------------------------------------------------------------

    def write_register(self, offset: int, value: int) -> None:
        super().write_register(offset, value)
        if self._address("RING_BASE"):
            self._set_address("RING_BASE", 0)
            raise ValueError(f"RING_BASE must be 0 for a pool, not {value:#x}")

    def wait_interrupt(self, timeout_s: float | None, progress: Callable[..., None] | None) -> None:
        super().wait_interrupt(timeout_s, progress)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def close(self) -> None:
        super().close()
        self._workers.close()

    def _pause(self, deadline: float | None) -> None:
        remaining = PAUSE_SECONDS if deadline is None else min(PAUSE_SECONDS, max(0.0, deadline - time.monotonic()))
        if self._units and not self._units[0][1].done:
            self._workers.news.wait(remaining)
        self._workers.news.clear()

    # -- machine ---------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._drop_pieces()
        super()._reset()
        self._cutter = self._cut()
        # Why no more jobs are cut, and an error that is no fault of the machine's.
        self._halt: Stop | None = None
        self._failure: BaseException | None = None

    def _stop(self, stop: Stop) -> None:
        self._drop_pieces()
        super()._stop(stop)

    def _drop_pieces(self) -> None:
        """Nobody wants the results of what is under way."""
        if self._units:
            self._workers.stop([order for _, order in self._units], self._turn)
            self._turn += 1
            self._units.clear()

    @property
    def _works(self) -> bool:
        return self._busy and (bool(self._units) or self._halt is not None or self._next != self._registers["RING_TAIL"])

    def _advance(self) -> None:
        """Send what there is to do, and take what is done."""
        self._send()
        while self._units and self._units[0][1].done:
            self._take(*self._units.popleft())
        self._send()
        if not self._units and self._halt is not None:
            halt, self._halt = self._halt, None
            raise halt

    def _send(self) -> None:
        under_way, most = sum(not order.done for _, order in self._units), AHEAD * self._workers.threads
        while self._halt is None and under_way < most:
            try:
                unit = next(self._cutter)
            except Stop as stop:
                self._halt = stop
                return
            if unit is None:
                return
            self._units.append((unit, self._workers.order(unit.piece)))
            under_way += 1

    def _cut(self) -> Iterator[Unit | None]:
        """The pieces of the jobs in the ring; None when there is nothing to send now."""
        chain: list[Descriptor] = []
        while True:
            while self._next == self._registers["RING_TAIL"]:
                yield None
            job = self._fetch_descriptor()
            self._load_program(job)
            chain.append(job)
            number, self._next, self._before = self._next, self._next + 1 & 0xFFFF, job
            if job.continues:
                continue
            places = list(cut_heads(self._config, job))
            for batch, heads in places:
                jobs = cut_jobs(chain, batch, heads)
                reads = [self._program_rows(job), *(rows for each in jobs for rows in read_places(self._config, each))]
                while self._written_meanwhile(reads):
                    yield None
                contents = tuple((rows, self._memory.read_rows(rows.addresses, rows.size)) for rows in reads)
                registers = self._registers["RING_SIZE_LOG2"], self._registers["WATCHDOG"]
                piece = Piece(jobs, contents, output_places(self._config, jobs[-1]), *registers, self._turn)
                overhead = len(jobs) * DESCRIPTOR_BYTES + reads[0].size
                yield Unit(piece, number, job if (batch, heads) == places[-1] else None, overhead)
            chain = []

    def _program_rows(self, job: Descriptor) -> RowPlaces:
        start, size = self._program_place(job)
        return RowPlaces(np.array([start], np.uint64), ceil_div(size, self._config.bus_bytes) * self._config.bus_bytes)

    def _written_meanwhile(self, reads: list[RowPlaces]) -> bool:
        """Whether a piece that is under way may write what another one is to read."""
        spans = [rows.span for rows in reads]
        outputs = [unit.piece.output.span for unit, _ in self._units]
        return any(start < end and first < last for first, end in spans for start, last in outputs)

    def _take(self, unit: Unit, order: Order) -> None:
        """A piece is done, and all before it are."""
        if order.error is not None:
            self._failure = order.error
            # A machine that waits for what never comes.
            raise Stop(Cause.TIMEOUT, 0)
        result = order.result
        assert result is not None
        for flags in (self._flags, self._job_flags):
            for name, seen in result.flags.items():
                flags[name] |= seen
        if result.fault is not None:
            raise Stop(*result.fault)
        unit.piece.output.put(self._memory.data, result.rows)
        for name, count in result.counters.items():
            self._counters[name] += count - unit.overhead if name == "bytes_read" else count
        if unit.job is not None:
            self._complete(unit.job, unit.number)
            self._mark_time()

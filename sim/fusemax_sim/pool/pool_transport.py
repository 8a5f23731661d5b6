"""The device of a pool: registers, ring and memory in this process, its jobs on simulators of a Dask cluster.

A job is cut into pieces of some heads each. A piece is run by a machine that has just been reset, wherever there
is one, and its result is taken when all pieces before it are done. So results, errors and counters do not depend on the number
of workers. Counters are those of the simulators, added up; jobs, and bytes of descriptors and programs, count once as on one
device.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fusemax.errors import MissingExtraError
from fusemax.evaluation.cluster import CONNECT_SECONDS, check_where, connected
from fusemax.model.job_memory import Stop
from fusemax.model.ring_machine import RingMachine
from fusemax.spec import DESCRIPTOR_BYTES, Cause, Config, Descriptor, ceil_div

from ..build import build
from ..emission import emission_digest
from ..errors import SimulationError, WorkerLost
from ..memory import Memory
from .piece import Piece, PieceResult, RowPlaces, cut_heads, cut_jobs, output_places, read_places
from .simulators import Machine, begin_simulator, end_simulators, run_piece, stop_pieces

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["PoolTransport"]

#: Pieces that are sent ahead, for each that can run at a time.
AHEAD = 3
#: Workers of a scheduler come and go: they are counted anew after so long.
COUNT_SECONDS = 1.0
#: A wait ends after so long, so that progress is told and a time limit kept.
PAUSE_SECONDS = 0.05
#: Time for a scheduler's workers to end their simulators.
CLOSE_SECONDS = 10.0


@dataclass(eq=False)
class Unit:
    """A piece on its way.

    Members
    -------
    number
        Of its job in the ring, modulo 2^16.
    job
        The last one of its chain, if this is the job's last piece.
    output
        Rows that it writes.
    overhead
        Bytes of descriptors and program that its simulator reads.
    """

    number: int
    job: Descriptor | None
    output: RowPlaces
    overhead: int
    future: Future | None = None
    result: PieceResult | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None


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
    WorkerLost
        From :meth:`wait_interrupt`, if workers are lost again and again; the next call begins anew.
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
        check_where(scheduler, workers)
        if memory is not None:
            memory.check_width(config.bus_bits)
        self._turn = 0
        self._units: deque[Unit] = deque()
        super().__init__(config, memory_bytes)
        self._machine = Machine(uuid.uuid4().hex, config, memory, memory_bytes, emission_digest(config))
        if scheduler is None:
            # Once, before all workers do it.
            build(config)
        self._news = threading.Event()
        with ExitStack() as stack:
            try:
                self._client = stack.enter_context(connected(scheduler, workers or 1, processes=False))
            except ModuleNotFoundError as error:
                raise MissingExtraError(f"a pool needs Dask: pip install 'fusemax[sim,explore]' ({error})") from error
            stack.callback(_end_simulators, self._client, self._machine.pool)
            self._local = scheduler is None
            self._threads = self._count_threads()
            self._counted = time.monotonic()
            self._begin_simulators(scheduler)
            self._finalizer = weakref.finalize(self, _close, os.getpid(), stack.pop_all())

    def _begin_simulators(self, scheduler: str | None) -> None:
        """One on every worker, or all that there will be on this machine, so that this tells what would not work."""
        if scheduler is None:
            places: list[dict[str, Any]] = [{}] * self._threads
        else:
            try:
                self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
            except TimeoutError as error:
                raise OSError(f"the scheduler at {scheduler} must have a worker, but has none") from error
            places = [{"workers": [address], "allow_other_workers": False} for address in self._client.nthreads()]
        futures = [self._client.submit(begin_simulator, self._machine, pure=False, **place) for place in places]
        for future in futures:
            future.result()

    def _count_threads(self) -> int:
        return max(1, sum(self._client.nthreads().values()))

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
        self._news.set()
        self._finalizer()

    def _pause(self, deadline: float | None) -> None:
        remaining = PAUSE_SECONDS if deadline is None else min(PAUSE_SECONDS, max(0.0, deadline - time.monotonic()))
        if self._units and not self._units[0].done:
            self._news.wait(remaining)
        self._news.clear()

    # -- machine ---------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        self._drop_pieces()
        super()._reset()
        self._cutter = self._cut()
        #: Why no more jobs are cut, and an error that is no fault of the machine's.
        self._halt: Stop | None = None
        self._failure: BaseException | None = None

    def _stop(self, stop: Stop) -> None:
        self._drop_pieces()
        super()._stop(stop)

    def _drop_pieces(self) -> None:
        """Nobody wants the results of what is under way. Does not wait."""
        if not self._units:
            return
        turn, self._turn = self._turn, self._turn + 1
        for unit in self._units:
            if unit.future is not None:
                unit.future.release()
        self._units.clear()
        client = self._client
        client.loop.add_callback(partial(client.run, stop_pieces, self._machine.pool, turn, on_error="ignore"))

    @property
    def _works(self) -> bool:
        return self._busy and (bool(self._units) or self._halt is not None or self._next != self._registers["RING_TAIL"])

    def _advance(self) -> None:
        """Send what there is to do, and take what is done."""
        self._send()
        while self._units and self._units[0].done:
            self._take(self._units.popleft())
        self._send()
        if not self._units and self._halt is not None:
            halt, self._halt = self._halt, None
            raise halt

    def _send(self) -> None:
        if not self._local and time.monotonic() > self._counted + COUNT_SECONDS:
            self._threads, self._counted = self._count_threads(), time.monotonic()
        under_way = sum(not unit.done for unit in self._units)
        while self._halt is None and under_way < AHEAD * self._threads:
            try:
                found = next(self._cutter)
            except Stop as stop:
                self._halt = stop
                return
            if found is None:
                return
            unit, piece = found
            self._units.append(unit)
            unit.future = self._client.submit(run_piece, self._machine, piece, pure=False)
            self._client.loop.add_callback(_gather, self._client, unit, self._news)
            under_way += 1

    def _cut(self) -> Iterator[tuple[Unit, Piece] | None]:
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
                output = output_places(self._config, jobs[-1])
                overhead = len(jobs) * DESCRIPTOR_BYTES + reads[0].size
                unit = Unit(number, job if (batch, heads) == places[-1] else None, output, overhead)
                registers = self._registers["RING_SIZE_LOG2"], self._registers["WATCHDOG"]
                yield unit, Piece(jobs, contents, output, *registers, self._turn)
            chain = []

    def _program_rows(self, job: Descriptor) -> RowPlaces:
        start, size = self._program_place(job)
        return RowPlaces(np.array([start], np.uint64), ceil_div(size, self._config.bus_bytes) * self._config.bus_bytes)

    def _written_meanwhile(self, reads: list[RowPlaces]) -> bool:
        """Whether a piece that is under way may write what another one is to read."""
        spans = [rows.span for rows in reads]
        outputs = [unit.output.span for unit in self._units]
        return any(start < end and first < last for first, end in spans for start, last in outputs)

    def _take(self, unit: Unit) -> None:
        """A piece is done, and all before it are."""
        if unit.error is not None:
            self._failure = _failure_of(unit.error)
            # A machine that waits for what never comes.
            raise Stop(Cause.TIMEOUT, 0)
        result = unit.result
        assert result is not None
        for flags in (self._flags, self._job_flags):
            for name, seen in result.flags.items():
                flags[name] |= seen
        if result.fault is not None:
            raise Stop(*result.fault)
        unit.output.put(self._memory.data, result.rows)
        for name, count in result.counters.items():
            self._counters[name] += count - unit.overhead if name == "bytes_read" else count
        if unit.job is not None:
            self._complete(unit.job, unit.number)
            self._mark_time()


async def _gather(client: Client, unit: Unit, news: threading.Event) -> None:
    try:
        unit.result = await client.gather(unit.future, asynchronous=True)
    except BaseException as error:
        unit.error = error
    news.set()


def _failure_of(error: BaseException) -> BaseException:
    """What a user is told of an error of a piece."""
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return WorkerLost(f"a part of the call was lost with its worker {error.allowed_failures + 1} times: {error}")
    if isinstance(error, SimulationError):
        return error
    return WorkerLost(f"a part of the call was lost: {type(error).__name__}: {error}")


def _end_simulators(client: Client, pool: str) -> None:
    """On all workers, and in this process: its workers may be threads."""
    end_simulators(pool)
    with suppress(Exception):
        client.sync(client._run, end_simulators, pool, on_error="ignore", callback_timeout=CLOSE_SECONDS)


def _close(owner: int, stack: ExitStack) -> None:
    """Disconnect and end the cluster, if it is ours; the end may come in a thread of the cluster's, which cannot wait for it."""
    if os.getpid() != owner:
        return
    if threading.current_thread() is threading.main_thread():
        stack.close()
    else:
        thread = threading.Thread(target=stack.close, name="fusemax-pool-close")
        thread.start()

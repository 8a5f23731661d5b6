"""Calls that wait for the machine: their jobs go into the ring while others run, and every call learns how its own ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..errors import (
    AbortFaultError,
    DeviceDrainError,
    DeviceError,
    DeviceFaultError,
    DeviceTimeoutError,
    NonFiniteError,
    RingFaultError,
    ScoreOverflowError,
    fresh,
)
from ..spec import EXACT_CAUSES, Config, Descriptor
from .job_ring import Deadline, JobRing
from .machine_turns import MachineTurns, StopWaitingError

__all__ = ["CallQueue", "QueuedCall"]

#: A wait is cut into pieces of this long, between which other threads have their turn.
PIECE_SECONDS = 0.05
#: Jobs from one that interrupts to the next; a call's last one always does.
JOBS_PER_INTERRUPT = 4


@dataclass(eq=False)
class QueuedCall:
    """The jobs of a call, on their way.

    Members
    -------
    jobs
        Fields of their descriptors.
    alone
        Nothing else is in the machine with it, so that what the machine tells is told of it.
    measured
        Alone, and the machine's counters are cleared before.
    complete
        The machine has nothing of it to do: it is not queued yet, all jobs are complete, or there is an error.
    error
        Why it has failed, if it has.
    cycles
        Counter ``cycles`` when the last job was complete.
    scores, remedy
        For the error about scores that left their range: what they are, and what to choose instead.
    """

    jobs: Sequence[Descriptor]
    alone: bool = False
    measured: bool = False
    complete: bool = True
    error: DeviceError | None = None
    cycles: int = 0
    scores: str = "scores"
    remedy: str = "a smaller scale"
    #: Nobody wants its result.
    abandoned: bool = False
    #: Jobs that were put into the ring; number there of the first one.
    put: int = 0
    first: int = 0
    #: What was seen in the machine while the call was there: "nonfinite", "overflow".
    flags: set[str] = field(default_factory=set)

    @property
    def rest(self) -> Iterator[list[Descriptor]]:
        """Jobs that are not in the ring yet, in chains: each ends with a job that none continues."""
        chain: list[Descriptor] = []
        for job in self.jobs[self.put :]:
            chain.append(job)
            if not job.continues:
                yield chain
                chain = []


class CallQueue:
    """Runs calls in the order in which they came, as the ring has room. Any thread may use it.

    If the machine stops, or has seen a number that is not finite or out of range, while several calls are in it, the calls that
    it may be about are run again, each alone. So each call gets its own error, and no other's.

    Members
    -------
    ring
        The machine.
    """

    def __init__(self, ring: JobRing, config: Config) -> None:
        self.ring = ring
        self._config = config
        self._turns = MachineTurns(self._abort_now)
        self._calls: list[QueuedCall] = []
        self._started = False
        with self._turns.turn():
            self._start()

    @property
    def aborts(self) -> int:
        """A number that changes with every :meth:`abort`."""
        return self._turns.aborts

    @property
    def longest_chain(self) -> int:
        """Most jobs that can continue each other."""
        return self.ring.capacity

    def add(
        self,
        jobs: Sequence[Descriptor],
        *,
        alone: bool = False,
        measured: bool = False,
        since: int | None = None,
        call: QueuedCall | None = None,
    ) -> QueuedCall:
        """Queue a call; its first jobs start at once if they can. No chain of jobs is longer than :attr:`longest_chain`.

        ``measured``: alone, and the machine's counters are cleared before. ``since``: :attr:`aborts` when the call began; it
        has failed already if there was one meanwhile. ``call``: what it is queued as; who holds it can abandon it if this is
        interrupted.
        """
        call = QueuedCall([]) if call is None else call
        call.jobs, call.alone, call.measured = jobs, alone or measured, measured
        with self._turns.turn():
            self._calls.append(call)
            call.complete = False
            if since not in (None, self.aborts):
                self._end([call], AbortFaultError(0, self.ring.complete))
            self._pump()
        return call

    def poll(self) -> None:
        """See what has become of the calls without waiting."""
        with self._turns.turn():
            self._collect()
            self._pump()

    def wait(self, call: QueuedCall, deadline: Deadline, progress: Callable[..., None] | None = None) -> None:
        """Wait until a call is complete; ``progress`` is called now and then, when counters may be read.

        Raises
        ------
        DeviceTimeoutError
            If it is not complete in time; the machine goes on.
        DeviceError
            The call's own error.
        """
        self._wait(lambda: call.complete, deadline, progress)
        if call.error is not None:
            raise fresh(call.error)

    def wait_end(self, call: QueuedCall, deadline: Deadline) -> None:
        """Wait until a call is complete, whatever its error.

        Raises
        ------
        DeviceTimeoutError
            If it is not complete in time.
        """
        self._wait(lambda: call.complete, deadline, None)

    def abandon(self, call: QueuedCall) -> None:
        """Nobody wants a call's result any more: jobs that are not in the ring never get there."""
        call.abandoned = True
        if call.complete:
            return
        with self._turns.turn():
            call.jobs = call.jobs[: call.put]
            if not call.put and not call.complete:
                self._end([call], None)

    def abort(self) -> None:
        """Stop the machine now; every call that is not complete fails with AbortFaultError. Never waits.

        If another thread has the machine, or this one is inside a call, the note is acted on in a moment.
        """
        self._turns.ask_abort()

    def counters(self, names: Sequence[str]) -> list[int]:
        """Read counters; a progress function may, too."""
        if self._turns.in_progress:
            return [self.ring.counter(name) for name in names]
        with self._turns.turn():
            return [self.ring.counter(name) for name in names]

    def close(self) -> None:
        """From now on every call, also one that waits, raises DeviceClosedError."""
        self._turns.close()

    # -- turns -----------------------------------------------------------------------------------------------

    def _abort_now(self) -> None:
        if not self._calls:
            return
        self.ring.abort()
        fault = self.ring.fault()
        self._end(self._calls, fault if isinstance(fault, AbortFaultError) else AbortFaultError(0, self.ring.complete))
        self._started = False

    def _wait(self, is_over: Callable[[], bool], deadline: Deadline, progress: Callable[..., None] | None) -> None:
        while True:
            with self._turns.turn():
                if is_over():
                    return
                self._pump()
                if not is_over():
                    self._wait_piece(deadline, progress)
                    if not is_over() and deadline.over:
                        raise DeviceTimeoutError(
                            f"the device must be done within {deadline.timeout} s, but is not; give it more, or call again: "
                            "the next call waits for it first"
                        )

    def _wait_piece(self, deadline: Deadline, progress: Callable[..., None] | None) -> None:
        remaining = deadline.remaining
        piece = PIECE_SECONDS if remaining is None else min(PIECE_SECONDS, remaining)
        start = time.monotonic()
        try:
            self.ring.wait(piece, progress and self._turns.stoppable(progress))
        except StopWaitingError:
            pass
        except TimeoutError as error:
            if isinstance(error, DeviceError) and not isinstance(error, DeviceTimeoutError):
                raise  # The device does not answer at all.
            # A transport that gives up early has nothing under way.
            if time.monotonic() - start >= piece:
                return
        finally:
            self._turns.act()
        self._collect()

    def _start(self) -> None:
        """Start the machine, if its memory lets it."""
        self._started = False
        self.ring.start()
        self._started = True

    def _pump(self) -> None:
        """Put jobs into the ring. A call that is to be alone waits for those before it, and those behind wait for it."""
        if not self._started:
            try:
                self._start()
            except DeviceDrainError as error:
                self._end(self._calls, error)
                return
        ring = self.ring
        for call in list(self._calls):
            if not call.put:
                if ring.room == ring.capacity:
                    self._begin(call)
                elif call.alone:
                    break
            if call.put < len(call.jobs):
                self._put(call)
            elif not call.jobs:
                self._end([call], None)
                continue
            if call.put < len(call.jobs) or call.alone:
                break
        ring.ring()

    def _begin(self, call: QueuedCall) -> None:
        """The call is the first one in an idle machine."""
        self.ring.write("FLAGS_CLEAR", 1)
        if call.measured:
            self.ring.write("COUNTERS_CLEAR", 1)

    def _put(self, call: QueuedCall) -> None:
        """As many chains of a call as there is room for; the last one asks for an interrupt, and some before it."""
        ring = self.ring
        new: list[Descriptor] = []
        for chain in call.rest:
            if len(new) + len(chain) > ring.room:
                break
            new += chain
        if not call.put:
            call.first = ring.queued
        for number, job in enumerate(new, 1):
            asks = not job.continues and (number % JOBS_PER_INTERRUPT == 0 or number == len(new))
            ring.put(replace(job, interrupt=int(asks)))
            call.put += 1

    # -- ends ------------------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take what the machine has done; after an error, start it anew."""
        before = self.ring.complete
        entries = self.ring.collect()
        missed = range(before, min(entries, default=before))
        if missed:
            self._see(missed[-1], {name for name in ("nonfinite", "overflow") if self.ring.status()[name]})
        # Of jobs that continue each other only the last one's entry means something.
        chained = {number for number in entries if self._continues(number)}
        for call in list(self._calls):
            self._take(call, {number: entry for number, entry in entries.items() if number not in chained})
        fault = self.ring.fault()
        if fault is not None:
            self._stop(fault)

    def _take(self, call: QueuedCall, entries: Mapping[int, Mapping[str, int]]) -> None:
        """Flags and the end of a call, from the table's entries of jobs that are complete now."""
        if not call.put:
            return
        last = call.first + call.put - 1
        for number, entry in entries.items():
            if number <= last:
                call.flags |= {name for name in ("nonfinite", "overflow") if entry[name]}
        if call.put < len(call.jobs) or last >= self.ring.complete:
            return
        if call.flags and not call.alone:
            self._again(call)
            return
        entry = entries.get(last)
        call.cycles = entry["cycles"] | entry["cycles_high"] << 32 if entry else self.ring.counter("cycles")
        self._end([call], self._error_of(call))

    def _continues(self, number: int) -> bool:
        """Whether the job of that number is continued by the next one."""
        return any(
            bool(call.jobs[number - call.first].continues)
            for call in self._calls
            if call.first <= number < call.first + call.put
        )

    def _see(self, number: int, flags: set[str]) -> None:
        """Flags of jobs up to ``number`` of which the table has no entry any more."""
        for call in self._calls:
            if call.put and number >= call.first:
                call.flags |= flags

    def _error_of(self, call: QueuedCall) -> DeviceError | None:
        if "nonfinite" in call.flags:
            return NonFiniteError("queries, keys and values must be finite, but the machine has read an infinity or a NaN")
        if "overflow" in call.flags:
            limit = self._config.score_bits - 1 - self._config.score_frac_bits
            return ScoreOverflowError(
                f"{call.scores} times log2(e) must stay within ±2^{limit}, but have not; choose {call.remedy}"
            )
        return None

    def _stop(self, fault: DeviceFaultError) -> None:
        """The machine has stopped: whose fault is it?"""
        there = [call for call in self._calls if call.put]
        if isinstance(fault, (AbortFaultError, RingFaultError)):
            at_fault = list(self._calls)
        elif fault.cause in EXACT_CAUSES:
            at_fault = [call for call in there if call.first <= fault.job < call.first + call.put]
        else:
            at_fault = there if len(there) == 1 else []
        self._end(at_fault or (there if fault.cause in EXACT_CAUSES else []), fault)
        try:
            self._start()
        except DeviceDrainError as error:
            error.__cause__ = fault
            self._end(self._calls, error)
            return
        for call in list(self._calls):
            if call.put:
                self._again(call, alone=fault.cause not in EXACT_CAUSES)

    def _again(self, call: QueuedCall, *, alone: bool = True) -> None:
        """Run a call from its beginning, in its place among the others."""
        call.alone |= alone
        call.put, call.flags = 0, set()
        if call.abandoned:
            self._end([call], None)

    def _end(self, calls: Sequence[QueuedCall], error: DeviceError | None) -> None:
        for call in list(calls):
            call.error, call.complete = error and error.with_traceback(None), True
            if call in self._calls:
                self._calls.remove(call)

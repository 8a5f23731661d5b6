"""CallQueue on a ring that does what a test tells it: order, chains, calls that nobody wants, flags, faults."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest

from fusemax.errors import (
    AbortFaultError,
    DescriptorFaultError,
    DeviceDrainError,
    DeviceFaultError,
    DeviceTimeoutError,
    NonFiniteError,
    ReadFaultError,
    RingFaultError,
    ScoreOverflowError,
)
from fusemax.runtime.call_queue import CallQueue, QueuedCall
from fusemax.runtime.job_ring import Deadline
from fusemax.spec import CONFIGS

#: Entries of the table of completed jobs.
ENTRIES = 3


@dataclass(frozen=True)
class NamedJob:
    """What the queue needs of a descriptor, and a name."""

    name: str
    continues: int
    interrupt: int = 0


class Ring:
    """What the job ring is to the queue; the machine is the test, by :meth:`finish` and :meth:`stop`."""

    def __init__(self, capacity: int = 8) -> None:
        self.capacity = capacity
        self.queued = self.complete = self.done = self.rung = 0
        #: Names of the jobs that were put, since the beginning; registers that were written.
        self.put_names: list[str] = []
        self.written: list[str] = []
        self.interrupts: dict[str, int] = {}
        self.entries: dict[int, dict[str, int]] = {}
        self.flags = {"nonfinite": 0, "overflow": 0}
        self.stopped: DeviceFaultError | None = None
        self.silent = False
        self.starts = 0
        #: Done when somebody waits.
        self.act: Callable[[], Any] = lambda: None

    # -- the machine -------------------------------------------------------------------------------------------

    def finish(self, number: int = 1, cycles: int = 0, **flags: int) -> None:
        """So many more jobs are complete; flags are those of the last one."""
        for index in range(self.done, self.done + number):
            seen = flags if index == self.done + number - 1 else {}
            entry = {"cycles": cycles & 0xFFFF_FFFF, "cycles_high": cycles >> 32, "nonfinite": 0, "overflow": 0}
            self.entries[index] = entry | seen
        self.done += number
        assert self.done <= self.rung

    def stop(self, error: type[DeviceFaultError], job: int = 0) -> None:
        self.stopped = error(0x40, job)

    # -- JobRing -----------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        return self.capacity - (self.queued - self.complete)

    def start(self) -> None:
        if self.silent:
            raise DeviceDrainError("silent")
        self.starts += 1
        self.queued = self.complete = self.done = self.rung = 0
        self.entries, self.stopped = {}, None

    def write(self, name: str, value: int) -> None:
        self.written.append(name)

    def abort(self) -> None:
        self.written.append("abort")

    def fault(self) -> DeviceFaultError | None:
        return self.stopped

    def status(self) -> dict[str, int]:
        return self.flags

    def counter(self, name: str) -> int:
        assert name == "cycles"
        return 77

    def put(self, job: NamedJob) -> None:
        assert self.room
        self.put_names.append(job.name)
        self.interrupts[job.name] = job.interrupt
        self.queued += 1

    def ring(self) -> None:
        self.rung = self.queued

    def wait(self, timeout: float | None, progress: Any) -> None:
        before = self.done, self.stopped
        self.act()
        if before == (self.done, self.stopped):
            raise TimeoutError

    def collect(self) -> dict[int, dict[str, int]]:
        before, self.complete = self.complete, self.done
        return {number: self.entries[number] for number in range(max(before, self.done - ENTRIES), self.done)}


def jobs(name: str, number: int, chained: Iterable[int] = ()) -> list[Any]:
    """Jobs ``name0``, ``name1``...; those that are ``chained`` are continued by the next one."""
    chained = set(chained)
    return [NamedJob(f"{name}{index}", int(index in chained)) for index in range(number)]


def queue_of(ring: Ring) -> CallQueue:
    return CallQueue(ring, CONFIGS["tiny"])  # type: ignore[arg-type]


def put(ring: Ring) -> str:
    return " ".join(ring.put_names)


def soon() -> Deadline:
    return Deadline(5.0)


def test_calls_are_put_in_their_order_as_there_is_room() -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    first, second, third = (queue.add(jobs(name, number)) for name, number in (("a", 3), ("b", 3), ("c", 1)))
    assert put(ring) == "a0 a1 a2 b0"
    ring.finish(2)
    queue.poll()
    # The third call has room, but waits for the second.
    assert put(ring) == "a0 a1 a2 b0 b1 b2"
    assert not first.complete
    ring.finish(2)
    queue.poll()
    assert put(ring) == "a0 a1 a2 b0 b1 b2 c0"
    assert first.complete and not second.complete
    ring.finish(3)
    queue.poll()
    assert second.complete and third.complete
    assert ring.room == 4


def test_a_chain_is_put_at_once() -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    call = queue.add(jobs("a", 6, chained=(2, 3, 4)))
    assert put(ring) == "a0 a1"
    ring.finish(2)
    queue.wait(call, soon()) if call.complete else queue.poll()
    assert put(ring) == "a0 a1 a2 a3 a4 a5"
    ring.finish(4)
    queue.poll()
    assert call.complete


def test_no_call_overtakes_one_that_waits_for_room() -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    for call in (jobs("a", 2), jobs("b", 3, chained=(0, 1)), jobs("c", 1)):
        queue.add(call)
    assert put(ring) == "a0 a1"
    ring.finish()
    queue.poll()
    assert put(ring) == "a0 a1 b0 b1 b2"
    ring.finish()
    queue.poll()
    assert put(ring) == "a0 a1 b0 b1 b2 c0"


def test_interrupts_are_asked_for_now_and_then_and_at_the_end() -> None:
    ring = Ring(16)
    queue = queue_of(ring)
    queue.add(jobs("a", 11, chained=(7,)))
    queue.add(jobs("b", 1))
    # The eighth is continued, so nobody would see its end.
    assert [name for name, asked in ring.interrupts.items() if asked] == ["a3", "a10", "b0"]


def test_a_call_that_is_alone() -> None:
    ring = Ring()
    queue = queue_of(ring)
    first = queue.add(jobs("a", 1))
    alone = queue.add(jobs("b", 1), alone=True)
    last = queue.add(jobs("c", 1))
    for expected in ("a0", "a0 b0", "a0 b0 c0"):
        queue.poll()
        assert put(ring) == expected
        ring.finish()
    queue.poll()
    assert first.complete and alone.complete and last.complete


def test_flags_and_counters_are_cleared_when_the_machine_is_idle() -> None:
    ring = Ring()
    queue = queue_of(ring)
    queue.add(jobs("a", 1))
    assert ring.written == ["FLAGS_CLEAR"]
    queue.add(jobs("b", 1))
    assert ring.written == ["FLAGS_CLEAR"]
    ring.finish(2)
    queue.poll()
    queue.add(jobs("c", 1), measured=True)
    assert ring.written == ["FLAGS_CLEAR", "FLAGS_CLEAR", "COUNTERS_CLEAR"]


def test_a_call_without_jobs_has_its_turn_too() -> None:
    ring = Ring()
    queue = queue_of(ring)
    queue.add(jobs("a", 1))
    plain, measured, behind = queue.add([]), queue.add([], measured=True), queue.add(jobs("b", 1))
    assert plain.complete and not measured.complete
    assert put(ring) == "a0"
    ring.finish()
    queue.poll()
    assert measured.complete and not behind.complete
    assert ring.written[-3:] == ["FLAGS_CLEAR", "COUNTERS_CLEAR", "FLAGS_CLEAR"]
    assert put(ring) == "a0 b0"


# -- calls that nobody wants ---------------------------------------------------------------------------------------------


def test_a_call_that_is_abandoned_puts_no_more_jobs() -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    call, behind = queue.add(jobs("a", 9)), queue.add(jobs("b", 1))
    queue.abandon(call)
    assert not call.complete
    ring.finish(4)
    queue.poll()
    assert call.complete and call.error is None
    assert put(ring) == "a0 a1 a2 a3 b0"
    ring.finish()
    queue.poll()
    assert behind.complete


def test_a_call_that_is_abandoned_before_its_turn_is_over() -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    first, call, behind = queue.add(jobs("a", 4)), queue.add(jobs("b", 2)), queue.add(jobs("c", 1))
    queue.abandon(call)
    assert call.complete
    queue.abandon(call)
    ring.finish(4)
    queue.poll()
    assert first.complete and not behind.complete
    assert put(ring) == "a0 a1 a2 a3 c0"
    queue.abandon(first)
    assert first.error is None


@pytest.mark.parametrize("event", ["flags", "fault"])
def test_a_call_that_is_abandoned_is_not_run_again(event: str) -> None:
    ring = Ring()
    queue = queue_of(ring)
    call, behind = queue.add(jobs("a", 1)), queue.add(jobs("b", 1))
    queue.abandon(call)
    if event == "flags":
        ring.finish(overflow=1)
    else:
        ring.stop(ReadFaultError)
    queue.poll()
    assert call.complete and call.error is None
    assert put(ring) == ("a0 b0" if event == "flags" else "a0 b0 b0")
    ring.finish()
    queue.poll()
    if event == "flags":
        # They may have been those of the job behind.
        assert put(ring) == "a0 b0 b0"
        ring.finish()
        queue.poll()
    assert behind.complete and behind.error is None


# -- flags ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flag", "error"), [("overflow", ScoreOverflowError), ("nonfinite", NonFiniteError)])
def test_a_flag_is_told_of_the_call_that_has_it_when_alone(flag: str, error: type[Exception]) -> None:
    ring = Ring()
    queue = queue_of(ring)
    first, second, third = (queue.add(jobs(name, 1)) for name in "abc")
    ring.finish()
    ring.finish(**{flag: 1})
    ring.finish()
    queue.poll()
    # What is seen may be of a later job that was loaded, never of one that was complete.
    assert first.complete and not second.complete and not third.complete
    assert put(ring) == "a0 b0 c0 b0"
    ring.finish(**{flag: 1})
    queue.poll()
    assert isinstance(second.error, error)
    with pytest.raises(error):
        queue.wait(second, soon())
    ring.finish()
    queue.poll()
    assert third.complete and third.error is None


def test_entries_of_jobs_that_are_continued_mean_nothing() -> None:
    ring = Ring()
    queue = queue_of(ring)
    call = queue.add(jobs("a", 3, chained=(1,)))
    ring.finish(2, nonfinite=1, overflow=1)
    ring.finish()
    queue.poll()
    assert call.complete and call.error is None
    assert put(ring) == "a0 a1 a2"


@pytest.mark.parametrize("seen", [False, True])
def test_jobs_that_the_table_has_forgotten(seen: bool) -> None:
    """STATUS has the flags of all since it was cleared: the calls that they may be of are run again alone."""
    ring = Ring()
    queue = queue_of(ring)
    first, second = queue.add(jobs("a", 3)), queue.add(jobs("b", 4))
    ring.flags = {"nonfinite": int(seen), "overflow": 0}
    ring.finish(7)
    queue.poll()
    assert first.complete == second.complete == (not seen)
    assert put(ring).count("a0") == 1 + seen
    if seen:
        # Alone, with flags that were cleared.
        ring.flags["nonfinite"] = 0
        ring.finish(3)
        queue.poll()
        ring.finish(4)
        queue.poll()
        assert first.error is None and second.error is None
    assert first.complete and second.complete


def test_flags_of_forgotten_jobs_are_not_told_of_later_calls() -> None:
    ring = Ring(16)
    queue = queue_of(ring)
    first, second = queue.add(jobs("a", 3)), queue.add(jobs("b", 6))
    ring.flags = {"nonfinite": 1, "overflow": 0}
    ring.finish(5)
    # Jobs 0 and 1 are not in the table any more.
    queue.poll()
    assert not first.complete and not second.complete
    assert first.flags == set() and first.alone and put(ring).endswith("b5")
    assert second.flags == set() and not second.alone


def test_cycles() -> None:
    ring = Ring()
    queue = queue_of(ring)
    first, second = queue.add(jobs("a", 1)), queue.add(jobs("b", 4))
    ring.finish(cycles=(5 << 32) + 3)
    ring.finish(4, cycles=(6 << 32) + 9)
    queue.poll()
    # The table has three entries: the first call's is gone, and the counter itself is as near as it gets.
    assert (first.cycles, second.cycles) == (77, (6 << 32) + 9)


# -- faults --------------------------------------------------------------------------------------------------------------


def errors_of(calls: Iterable[QueuedCall]) -> list[type | None]:
    return [type(call.error) if call.complete else None for call in calls]


@pytest.mark.parametrize("error", [AbortFaultError, RingFaultError])
def test_what_fails_all_calls(error: type[DeviceFaultError]) -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    calls = [queue.add(jobs(name, 3)) for name in "abc"]
    ring.stop(error)
    queue.poll()
    assert errors_of(calls) == [error] * 3
    assert ring.starts == 2


@pytest.mark.parametrize(
    ("job", "expected"),
    [
        (3, [None, DescriptorFaultError, None]),
        # A job that is of no call: none of those in the ring can go on.
        (99, [DescriptorFaultError, DescriptorFaultError, None]),
    ],
)
def test_a_fault_of_one_job(job: int, expected: list[type | None]) -> None:
    ring = Ring(4)
    queue = queue_of(ring)
    calls = [queue.add(jobs(name, 2)) for name in "abc"]
    ring.stop(DescriptorFaultError, job)
    queue.poll()
    assert errors_of(calls) == expected
    assert put(ring) == ("a0 a1 b0 b1 a0 a1 c0 c1" if job == 3 else "a0 a1 b0 b1 c0 c1")


def test_a_fault_that_may_be_of_any_call_is_looked_for_one_by_one() -> None:
    ring = Ring()
    queue = queue_of(ring)
    calls = [queue.add(jobs(name, 1)) for name in "ab"]
    ring.stop(ReadFaultError)
    queue.poll()
    assert put(ring) == "a0 b0 a0"
    ring.finish()
    queue.poll()
    assert put(ring) == "a0 b0 a0 b0"
    ring.stop(ReadFaultError)
    queue.poll()
    assert errors_of(calls) == [type(None), ReadFaultError]


def test_a_memory_that_does_not_answer_after_a_fault() -> None:
    ring = Ring()
    queue = queue_of(ring)
    calls = [queue.add(jobs(name, 1)) for name in "ab"]
    ring.stop(ReadFaultError)
    ring.silent = True
    queue.poll()
    assert errors_of(calls) == [DeviceDrainError] * 2
    assert isinstance(calls[0].error.__cause__, ReadFaultError)  # type: ignore[union-attr]
    # The next call tries again, and fails as long as there is no answer.
    later = queue.add(jobs("c", 1))
    assert errors_of([later]) == [DeviceDrainError]
    ring.silent = False
    again = queue.add(jobs("d", 1))
    assert put(ring) == "a0 b0 d0"
    ring.finish()
    queue.poll()
    assert errors_of([again]) == [type(None)]


def test_abort_of_nothing_does_nothing() -> None:
    ring = Ring()
    queue_of(ring).abort()
    assert ring.written == []


# -- waiting -------------------------------------------------------------------------------------------------------------


def test_a_wait_that_ends_with_the_call_at_the_last_moment_is_no_timeout() -> None:
    ring = Ring()
    queue = queue_of(ring)
    call = queue.add(jobs("a", 1))
    ring.act = ring.finish
    queue.wait(call, Deadline(1e-9))
    assert call.complete


def test_a_wait_ends_in_time() -> None:
    ring = Ring()
    queue = queue_of(ring)
    call = queue.add(jobs("a", 1))
    with pytest.raises(DeviceTimeoutError, match=r"^the device must be done within 0.02 s, but is not; "):
        queue.wait(call, Deadline(0.02))
    assert not call.complete


def test_a_transport_that_gives_up_early_may_have_finished() -> None:
    """It has nothing under way: jobs may be complete without an interrupt."""
    ring = Ring()
    queue = queue_of(ring)
    call = queue.add(jobs("a", 1))

    def wait(timeout: float | None, progress: Any) -> None:
        ring.finish()
        raise TimeoutError

    ring.wait = wait  # type: ignore[method-assign]
    queue.wait(call, soon())
    assert call.complete

"""Bus: when words are read and written. Runs of bus words go in, in order; cycles come out.

Everything here is in order, so a run's cycles follow from those of the runs before it: no cycle is visited.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ...spec import PAGE_BYTES, Config
from .latencies import Latencies

__all__ = ["LONG_AGO", "UNKNOWN", "IdealMemory", "MemoryTiming", "ReadPath", "WritePath", "cut"]

#: A cycle before all others: what holds from the beginning.
LONG_AGO = -(1 << 60)
#: The cycle of what is not decided yet.
UNKNOWN = 1 << 60

MOST_BEATS = 256


@runtime_checkable
class MemoryTiming(Protocol):
    """What the model asks of a memory; :class:`fusemax.Memory` has it."""

    @property
    def read_latency_cycles(self) -> int: ...
    @property
    def beat_interval_cycles(self) -> int: ...
    @property
    def outstanding_bursts(self) -> int: ...
    @property
    def stall_probability(self) -> float: ...


@dataclass(frozen=True, kw_only=True)
class IdealMemory:
    """Timing of a memory that never stalls by chance; the fields are those of :class:`fusemax.Memory`, without the simulator.

    Raises
    ------
    TypeError
        If a field is not an integer.
    ValueError
        If a field is out of its range.
    """

    #: From an accepted read address to the first beat, and from a write's last beat to its response; 1 to 65535.
    read_latency_cycles: int = 60
    #: At most one read beat and one write beat in this many cycles; 1 to 65535.
    beat_interval_cycles: int = 1
    #: Read bursts, and write bursts, that are accepted before the oldest is done; 1 to 256.
    outstanding_bursts: int = 256

    def __post_init__(self) -> None:
        for field, high in (("read_latency_cycles", 65535), ("beat_interval_cycles", 65535), ("outstanding_bursts", 256)):
            value = getattr(self, field)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{field} must be an integer, not {value!r}")
            if not 1 <= value <= high:
                raise ValueError(f"{field} must be from 1 to {high}, not {value!r}")

    @property
    def stall_probability(self) -> float:
        return 0.0


def cut(config: Config, address: int, beats: int) -> tuple[int, ...]:
    """Lengths of the bursts of a run of ``beats`` words: none crosses a page or has more than 256."""
    lengths = []
    while beats:
        length = min(beats, MOST_BEATS, (PAGE_BYTES - address % PAGE_BYTES) // config.bus_bytes)
        lengths.append(length)
        address += length * config.bus_bytes
        beats -= length
    return tuple(lengths)


class ReadPath:
    """Burst splitter, reader and the memory's read channel.

    Members
    -------
    free
        First cycle in which the arbiter may grant another run.
    beats
        Words read so far.
    """

    def __init__(self, config: Config, memory: MemoryTiming) -> None:
        latencies = Latencies(config)
        self._request, self._burst, self._window = latencies.request, latencies.burst, latencies.window
        self._next_burst = latencies.next_burst
        self._queue, self._register = latencies.queue, latencies.output_register
        self._latency, self._interval = memory.read_latency_cycles, memory.beat_interval_cycles
        self.free = 0
        self.beats = 0
        self._entered = LONG_AGO  # the latest run granted enters the splitter
        self._cut = LONG_AGO  # latest burst leaves the splitter
        self._issued = (LONG_AGO, LONG_AGO)  # addresses of the latest two bursts accepted
        self._presented = LONG_AGO  # latest word offered by the memory
        self._taken = LONG_AGO  # latest word taken
        # The reader's queue of bursts holds one in its output register; the memory's holds them until the last word is offered.
        # A queue of depth 1 is a register: a burst enters it when the one before has left.
        self._single = config.outstanding_reads == 1
        depth = max(1, config.outstanding_reads - 1)
        self._moved = deque([LONG_AGO] * depth, depth)
        self._done = deque([LONG_AGO] * memory.outstanding_bursts, memory.outstanding_bursts)

    def run(self, granted: int, bursts: tuple[int, ...]) -> int:
        """Read a run that the arbiter grants in cycle ``granted``; the cycle in which its last word is taken."""
        moved, done, interval = self._moved, self._done, self._interval
        presented, taken = self._presented, self._taken
        # One run waits for the splitter in the arbiter's register, another beside it.
        self.free = max(granted, self._entered) + 1
        self._entered = max(granted + self._request, self._cut)
        left, before, address = self._entered + self._burst, *self._issued
        for beats in bursts:
            # One burst waits beside the one that is offered.
            left = max(left, before + 1)
            before, address = address, max(left + self._window, address + 1, moved[0] + 1, done[0])
            # The queue's head becomes this burst when the one before it has left.
            if self._single:
                known = address + self._register
            else:
                in_register = max(address + self._queue, taken)
                known = in_register + self._register
                moved.append(in_register)
            presented = max(address + self._latency, presented + interval, taken + 1)
            taken = max(presented, known)
            if beats > 1:
                presented = max(presented + interval, taken + 1) + (beats - 2) * interval
                taken = presented
            if self._single:
                moved.append(taken)
            done.append(presented)
            self.beats += beats
            left += self._next_burst
        self._cut, self._issued, self._presented, self._taken = left - self._next_burst, (before, address), presented, taken
        return taken

    def state(self) -> tuple[int, ...]:
        """Every cycle that what comes next may depend on."""
        return (self.free, self._entered, self._cut, *self._issued, self._presented, self._taken, *self._moved, *self._done)


class WritePath:
    """Queue of results, burst splitter, writer and the memory's write and response channels.

    A row of results is asked for word by word, each when the queue has room for its answer.

    Members
    -------
    free
        First cycle in which the next row's first word may be asked for.
    latest
        No cycle known here is later.
    """

    def __init__(self, config: Config, memory: MemoryTiming) -> None:
        latencies = Latencies(config)
        self._answer, self._burst, self._window = latencies.answer, latencies.burst, latencies.window
        self._next_burst = latencies.next_burst
        self._queue, self._register = latencies.queue, latencies.output_register
        self._latency, self._interval = memory.read_latency_cycles, memory.beat_interval_cycles
        self.free = LONG_AGO
        self.latest = LONG_AGO
        self._asked = LONG_AGO
        self._moved = LONG_AGO  # latest word taken by the memory
        self._addresses = (LONG_AGO, LONG_AGO)  # of the latest two bursts, accepted
        self._answered = LONG_AGO  # latest response taken
        self._popped = deque([LONG_AGO] * latencies.answer_room, latencies.answer_room)
        depth = config.outstanding_writes - 1
        self._lengths = deque([LONG_AGO] * depth, depth)
        self._owed = deque([LONG_AGO] * depth, depth)
        self._responses = deque([LONG_AGO] * memory.outstanding_bursts, memory.outstanding_bursts)

    def row(self, earliest: int, bursts: tuple[int, ...]) -> int:
        """Write a row whose first word may be asked for from cycle ``earliest``; the cycle of the last request."""
        popped, interval, to_register = self._popped, self._interval, self._answer + self._queue
        asked, moved = self._asked, self._moved
        asked = max(asked + 1, earliest, self.free, popped[0] + 1)
        left, before, address = asked + self._burst, *self._addresses
        row_start = True
        for beats in bursts:
            left = max(left, before + 1)
            before, address = (
                address,
                max(left + self._window, address + 1, self._lengths[0] + 1, self._owed[0] + 1, self._responses[0]),
            )
            length_register = max(address + self._queue, moved)
            self._lengths.append(length_register)
            may_move = length_register + self._register
            for _ in range(beats):
                if not row_start:
                    asked = max(asked + 1, popped[0] + 1)
                row_start = False
                in_register = max(asked + to_register, moved)
                moved = max(in_register + self._register, may_move, moved + interval)
                popped.append(moved)
            owed_register = max(address + self._queue, self._answered)
            self._owed.append(owed_register)
            response = max(moved + self._latency, self._answered + 1)
            self._responses.append(response)
            self._answered = max(response, owed_register + self._register)
            left += self._next_burst
        self._asked, self._moved, self._addresses = asked, moved, (before, address)
        self.free = left - self._next_burst
        self.latest = self._answered
        return asked

    @property
    def answered(self) -> int:
        """Cycle in which the latest row's last response is taken."""
        return self._answered

    def state(self) -> tuple[int, ...]:
        """Every cycle that what comes next may depend on."""
        return (
            self.free,
            self._asked,
            self._moved,
            *self._addresses,
            self._answered,
            *self._popped,
            *self._lengths,
            *self._owed,
            *self._responses,
        )

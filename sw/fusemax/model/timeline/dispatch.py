"""Dispatcher: descriptors and programs are fetched, jobs handed to the walkers."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from itertools import compress

from ...compiler.program import Program
from ...spec import DESCRIPTOR_STRIDE_BYTES, MICROWORD, PROGRAM_HEADER, Config, ceil_div
from ..descriptor_check import settings
from .bus import UNKNOWN, ReadPath, cut
from .issue import Issue
from .latencies import Latencies
from .load import Arbiter, LoadWalker
from .pairs import PairWalker
from .store import Store
from .walk import Descriptor

__all__ = ["Dispatcher"]


class State(enum.Enum):
    """What the dispatcher does or waits for."""

    DESCRIPTOR = enum.auto()
    DRAIN = enum.auto()
    PROGRAM = enum.auto()
    ROOM = enum.auto()
    DONE = enum.auto()


class Dispatcher:
    """Works through the descriptors of a ring that all are there when the doorbell rings, in cycle 0.

    Parameters
    ----------
    programs
        Programs by tag.
    loaded
        Values of :data:`fusemax.spec.SETTINGS` that the machine has from earlier jobs.
    """

    def __init__(
        self,
        config: Config,
        descriptors: Sequence[Descriptor],
        programs: Mapping[int, Program],
        loaded: tuple[int, ...] | None,
        arbiter: Arbiter,
        path: ReadPath,
        issue: Issue,
        loaders: Sequence[LoadWalker],
        pairs: tuple[PairWalker, PairWalker],
        store: Store,
    ) -> None:
        self._config = config
        self._latencies = Latencies(config)
        self._descriptors, self._programs, self._loaded = descriptors, programs, loaded
        self._arbiter, self._path = arbiter, path
        self._issue, self._loaders, self._pairs, self._store = issue, loaders, pairs, store
        self._index = 0
        self._given = 0  # jobs handed to the store engine: those that do not continue in the next one
        self._state = State.DESCRIPTOR
        self._cycle = 0  # from when on it is in this state
        if loaded is not None:
            self._issue.load_program(-1, programs[loaded[0]])
            self._issue.words_from = 0
        arbiter.control = self._latencies.fetch

    @property
    def quiet(self) -> bool:
        """Nothing will happen before a job is taken by a walker or is complete."""
        return self._arbiter.control == UNKNOWN

    def grant(self, cycle: int) -> None:
        """The arbiter grants the run that was asked for."""
        config, latencies = self._config, self._latencies
        self._arbiter.control = UNKNOWN
        job = self._descriptors[self._index]
        if self._state is State.DESCRIPTOR:
            address = self._index * DESCRIPTOR_STRIDE_BYTES
            taken = self._path.run(cycle, cut(config, address, latencies.descriptor_beats))
            same = self._loaded == settings(job)
            self._state = State.ROOM if same else State.DRAIN
            self._cycle = taken + latencies.descriptor
        else:
            header = ceil_div(PROGRAM_HEADER.bits, config.bus_bits)
            beats = header + ceil_div(job.ii * MICROWORD.bits, config.bus_bits)
            address = job.program_address - header * config.bus_bytes
            taken = self._path.run(cycle, cut(config, address, beats))
            self._issue.words_from = taken + latencies.first_word
            self._state = State.ROOM
            self._cycle = cycle + latencies.dispatch
        self.go_on()

    def go_on(self) -> None:
        """Leave a state whose end is known."""
        latencies = self._latencies
        if self._state is State.DRAIN and len(self._store.ended) == self._given:
            job = self._descriptors[self._index]
            cycle = max(self._cycle, *self._store.ended[-1:], 0)
            self._issue.load_program(cycle, self._programs[job.program_tag])
            self._loaded = settings(job)
            for walker in (*self._loaders, *self._pairs):
                walker.restart()
            self._state = State.PROGRAM
            self._arbiter.control = cycle + latencies.program
        elif self._state is State.ROOM:
            walkers = (*self._loaders, *self._pairs, self._issue, self._store)
            room = max(walker.jobs.room for walker in walkers)
            if room == UNKNOWN:
                return
            cycle = max(self._cycle, room)
            job = self._descriptors[self._index]
            # In the order of ``walkers``.
            concerned = (1, 1, not job.values_in_keys, job.bit_mask, job.bias, 1, not job.continues)
            for walker in compress(walkers, concerned):
                walker.jobs.push(cycle, job, self._index + 1)
                walker.start()
            self._index += 1
            self._given += not job.continues
            self._state = State.DONE
            if self._index < len(self._descriptors):
                self._state = State.DESCRIPTOR
                self._arbiter.control = cycle + 1 + latencies.fetch

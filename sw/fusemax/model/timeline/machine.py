"""The machine's timeline: everything that waits for something else, put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...compiler.program import Program
from ...spec import Config
from .bus import UNKNOWN, MemoryTiming, ReadPath, WritePath
from .dispatch import Dispatcher
from .issue import Issue
from .latencies import Latencies
from .load import Arbiter, LoadWalker
from .periods import Rhythm
from .store import Store
from .walk import Descriptor

__all__ = ["Machine"]


class Machine:
    """A run from the doorbell until all jobs are complete.

    Two parts drive each other. Issue goes on as far as what has been granted lets it; then loading grants one run. Nothing that
    issue does later can be of influence on that grant, as what it waits for is loaded later.

    Parameters
    ----------
    extrapolate
        Pass over periods; without it every row and tile is walked through, to the same result.
    """

    def __init__(
        self,
        config: Config,
        descriptors: Sequence[Descriptor],
        programs: Mapping[int, Program],
        memory: MemoryTiming,
        loaded: tuple[int, ...] | None = None,
        *,
        extrapolate: bool = True,
    ) -> None:
        latencies = Latencies(config)
        self.path = ReadPath(config, memory)
        query, key, value = self.loaders = tuple(LoadWalker(config, tensor) for tensor in "qkv")
        self.arbiter = Arbiter(query, key, value, self.path)
        self.store = Store(config, WritePath(config, memory))
        self.rhythm = Rhythm(self)
        observe = self.rhythm.observe if extrapolate else lambda masked: None
        self.issue = Issue(config, query, key, value, self.store, observe)
        self.dispatcher = Dispatcher(
            config, descriptors, programs, loaded, self.arbiter, self.path, self.issue, self.loaders, self.store
        )
        self._jobs = sum(not job["continues"] for job in descriptors)
        #: No cycle has an influence on anything that comes later than this behind it.
        self.longest_delay = (
            latencies.results + latencies.answer + memory.read_latency_cycles + memory.beat_interval_cycles + 64
        )

    def run(self) -> int:
        """Cycles until the machine is idle again."""
        while True:
            self.issue.run(self.arbiter.next_grant)
            self.dispatcher.go_on()
            cycle = self.arbiter.next_grant
            if cycle == UNKNOWN:
                break
            walker = self.arbiter.choose(cycle)
            if walker is None:
                self.dispatcher.grant(cycle)
            else:
                walker.grant(cycle, self.path)
        if len(self.store.ended) < self._jobs:
            raise AssertionError("the machine must end its jobs, but stands still")
        end = self.store.ended[-1]
        self.issue.finish(end)
        return end + self.rhythm.cycles

"""A run of the machine: from the doorbell until all jobs are complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...compiler.program import Program
from ...spec import Config, Descriptor
from .bus import UNKNOWN, MemoryTiming
from .machine import Machine
from .periods import Periods

__all__ = ["Run"]


class Run:
    """Drives the two halves of the machine.

    Issue goes on as far as what has been granted lets it; then loading grants one run of bursts. Nothing that issue does later
    can influence that grant, as what it waits for is loaded later.

    Parameters
    ----------
    config, descriptors, programs, memory, loaded
        As :class:`~.machine.Machine`.
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
        self.machine = Machine(config, descriptors, programs, memory, loaded)
        self.periods = Periods(self.machine)
        if extrapolate:
            self.machine.on_key_tile = self.periods.observe
        self._jobs = sum(not job.continues for job in descriptors)

    def cycles(self) -> int:
        """Run to the end and return the cycles until the machine is idle again."""
        machine = self.machine
        while True:
            machine.issue.run(machine.arbiter.next_grant)
            machine.dispatcher.go_on()
            cycle = machine.arbiter.next_grant
            if cycle == UNKNOWN:
                break
            walker = machine.arbiter.choose(cycle)
            if walker is None:
                machine.dispatcher.grant(cycle)
            else:
                walker.grant(cycle, machine.path)
        if len(machine.store.ended) < self._jobs:
            raise AssertionError("the machine must end its jobs, but stands still")
        end = machine.store.ended[-1]
        machine.issue.finish(end)
        return end + self.periods.cycles

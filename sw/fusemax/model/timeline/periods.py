"""Periods of the machine: found and passed over in one step.

Whenever the first tile of a key tile has been taken, everything that the machine's future depends on is noted, cycles as seen
from now, loop numbers as seen from the issue walker. If it has been so before in the same run of a loop, the same will happen
again as long as the walkers stay away from the loop's end: so many periods are passed over at once, exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress

from .bus import LONG_AGO, UNKNOWN
from .load import DEADLINES
from .machine import Machine
from .walk import BATCH, GROUP, HEAD, TILE, Walk

__all__ = ["Periods"]


@dataclass(frozen=True)
class Past:
    """A moment: loop's number, cycle, what was counted, first uses of Q, K, V, mask bits and biases."""

    number: int
    cycle: int
    waits: tuple[int, ...]
    deadlines: tuple[int, ...]


class Periods:
    """Looks for periods of a machine.

    Members
    -------
    cycles
        Cycles passed over.
    count
        Periods passed over.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.cycles = 0
        self.count = 0
        # For every loop: which run of it the moments belong to, and the moments by what the future depends on.
        self._run: dict[int, object] = {}
        self._moments: dict[int, dict[object, Past]] = {}

    def observe(self, masked: bool) -> None:
        """A key tile's first tile has been taken; the issue walker still stands at it. Masked heads differ within."""
        machine = self._machine
        if not machine.dispatcher.quiet:
            return
        at = machine.issue.at
        for loop in (BATCH, HEAD) if masked else (BATCH, HEAD, GROUP, TILE):
            if not any(at[loop + 1 :]) and self._observe_loop(loop):
                return

    def _observe_loop(self, loop: int) -> bool:
        """Whether periods of the loop were passed over."""
        machine = self._machine
        issue, walkers = machine.issue, (*machine.loaders, *machine.pairs)
        moving = self._moving(loop)
        run = (issue.job_number, *issue.at[:loop], issue.group_tiles if loop == GROUP else 0)
        if any(walker.valid < UNKNOWN for walker in machine.pairs if walker not in moving):
            # It asks for rows of a later job; the order of its requests among the others is not looked at here.
            return False
        for walker in moving:
            if walker.job is None or walker.job_number != issue.job_number or walker.at[:loop] != issue.at[:loop]:
                return False
            if loop == GROUP and walker.group_tiles != issue.group_tiles:
                return False
        if self._run.get(loop) != run:
            self._run[loop], self._moments[loop] = run, {}
        now = Past(issue.at[loop], issue.base + self.cycles, issue.waits.values(), tuple(walker.deadline for walker in walkers))
        moments = self._moments[loop]
        past = moments.setdefault(self._future(loop, moving), now)
        if past is now:
            return False
        period = now.number - past.number
        times = min((self._end(loop) - 1 - walker.at[loop]) // period for walker in moving)
        if loop == TILE:
            times = min(times, self._until_queries_overtake(now, past, len(moving) - 1))
        if times < 1:
            return False
        for walker in moving:
            walker.at[loop] += times * period
        for walker, here, there in zip(walkers, now.deadlines, past.deadlines, strict=True):
            if walker in moving:
                walker.advance(times * (here - there))
        issue.waits.add(tuple(here - there for here, there in zip(now.waits, past.waits, strict=True)), times)
        self.cycles += times * (now.cycle - past.cycle)
        self.count += times
        self._moments[loop] = {}
        return True

    def _moving(self, loop: int) -> tuple[Walk, ...]:
        """Walkers that move in a run of the loop. Within a group no query is loaded anew and no result stored."""
        machine = self._machine
        query, key, value = machine.loaders
        job = machine.issue.job
        assert job is not None
        keys = (key,) if job.values_in_keys else (key, value)
        if loop == TILE:
            return *keys, machine.issue
        pairs = compress(machine.pairs, (job.bit_mask, job.bias))
        return query, *keys, *pairs, machine.issue, machine.store

    def _end(self, loop: int) -> int:
        """Number of the loop's first turn that differs from those before."""
        job = self._machine.issue.job
        assert job is not None
        if loop == GROUP:
            large = job.large_groups
            in_large = self._machine.issue.at[GROUP] < large
            return large if in_large and large < job.groups else job.groups - 1
        return {TILE: job.key_tiles, HEAD: job.heads, BATCH: job.batch}[loop] - 1

    def _until_queries_overtake(self, now: Past, past: Past, tensors: int) -> int:
        """Periods in which the queries that wait for their turn stay on the same side of keys and, of two tensors, values."""
        if self._machine.loaders[0].valid == UNKNOWN:
            return UNKNOWN
        half = DEADLINES // 2
        times = UNKNOWN
        for here, there in zip(now.deadlines[1 : 1 + tensors], past.deadlines[1 : 1 + tensors], strict=True):
            times = min(times, (half - 1 - (here - now.deadlines[0]) % half) // (here - there))
            if here - there >= half:
                return 0
        return times

    def _future(self, loop: int, moving: tuple[Walk, ...]) -> tuple[object, ...]:
        """Everything that what comes next depends on."""
        machine = self._machine
        issue, store, (query, key, value) = machine.issue, machine.store, machine.loaders
        here = issue.at
        places = []
        for walker in (query, key, value, *machine.pairs, store):
            if walker in moving:
                places += [walker.at[loop] - here[loop], *walker.at[loop + 1 :]]
            else:
                places += [walker.job_number, walker.job is None, *walker.at]
        if loop == TILE:
            waiting = query.valid < UNKNOWN
            half = DEADLINES // 2
            others = (walker for walker in (key, value) if walker in moving)
            order = [waiting and (other.deadline - query.deadline) % DEADLINES // half for other in others]
        else:
            order = [query.deadline - key.deadline, query.group_start - key.deadline]
        return (
            *places,
            *order,
            value in moving and value.deadline - key.deadline,
            *query.shape(),
            *key.shape(),
            *(value.shape() if value in moving else ()),
            *((pair.deadline - key.deadline) % DEADLINES for pair in machine.pairs if pair in moving),
            *(part for pair in machine.pairs for part in pair.shape()),
            *store.shape(),
            *issue.shape(),
            *self._cycles(),
        )

    def _cycles(self) -> Iterator[int]:
        """Cycles as seen from now; those that are over for everything are all the same."""
        machine = self._machine
        now = machine.issue.base
        grant = machine.arbiter.next_grant
        over = min(now, grant) - machine.longest_delay
        parts = [
            machine.issue.state(),
            machine.path.state(),
            *(loader.state() for loader in (*machine.loaders, *machine.pairs)),
        ]
        if machine.store.path.latest > over:
            parts.append(machine.store.state())
        for part in parts:
            yield LONG_AGO
            for cycle in part:
                yield UNKNOWN if cycle >= UNKNOWN else max(cycle, over) - now

"""Walkers: where one stands in the loops of its job and in memory, and the queue that its jobs come from."""

from __future__ import annotations

from collections import deque
from math import gcd

from ...spec import PAGE_BYTES, Config, Descriptor
from .bus import LONG_AGO, UNKNOWN, cut
from .latencies import Latencies

__all__ = ["BATCH", "GROUP", "HEAD", "TILE", "Descriptor", "JobQueue", "Rows", "Walk"]


#: Loops of a job, places in ``Walk.at``.
BATCH, HEAD, GROUP, TILE = range(4)


class JobQueue:
    """A walker's queue of jobs: buffered, ``depth`` deep. Jobs are pushed, with numbers in the ring, and taken in order."""

    def __init__(self, depth: int, latencies: Latencies) -> None:
        self._depth = depth
        self._latencies = latencies
        self._waiting: deque[tuple[int, Descriptor, int]] = deque()
        # When each job, up to the first that waits, entered the output register.
        self._moved = deque([LONG_AGO] * (depth - 1), depth - 1)
        self._taken = LONG_AGO

    @property
    def room(self) -> int:
        """First cycle in which another job can be pushed; unknown before one that is in the way is taken."""
        behind_register = self._depth - max(1, len(self._waiting))
        return self._moved[-behind_register] + 1 if behind_register else UNKNOWN

    def push(self, cycle: int, job: Descriptor, number: int) -> None:
        self._waiting.append((cycle, job, number))
        if len(self._waiting) == 1:
            self._move()

    def take(self, ready: int) -> tuple[int, Descriptor, int] | None:
        """The cycle in which a walker takes the next job, if there is one, that can from cycle ``ready`` on; job and number."""
        if not self._waiting:
            return None
        _, job, number = self._waiting.popleft()
        self._taken = max(self._moved[-1] + self._latencies.output_register, ready)
        if self._waiting:
            self._move()
        return self._taken, job, number

    def _move(self) -> None:
        self._moved.append(max(self._waiting[0][0] + self._latencies.queue, self._taken))


class Rows:
    """Rows of one array of a job: how each is cut into bursts. Only the place in its page matters of an address.

    Rows of Q and of the output are those of the heads that share keys, position by position.
    """

    def __init__(self, config: Config, job: Descriptor, name: str, beats: int) -> None:
        self._config = config
        self._beats = beats
        # Keys and values are read again for every group.
        self._again = name in ("k", "v")
        self._row, self._head, self._batch = (getattr(job, f"{name}_{loop}_stride") for loop in ("row", "head", "batch"))
        self._share, self._next_shared = (1, 0) if self._again else (job.share, getattr(job, f"{name}_share_stride"))
        self._address = self._position = self._head_base = self._batch_base = getattr(job, f"{name}_address") % PAGE_BYTES
        self._phase = 0
        self._whole = cut(config, 0, beats)
        # Rows all lie at multiples of this from each other.
        unit = gcd(self._row, self._head, self._batch, PAGE_BYTES, self._next_shared if self._share > 1 else 0)
        self._never_cut = self._address % unit + beats * config.bus_bytes <= unit

    @property
    def bursts(self) -> tuple[int, ...]:
        """Bursts of the row at hand."""
        return self._whole if self._never_cut else cut(self._config, self._address, self._beats)

    def next_row(self) -> None:
        self._phase += 1
        if self._phase < self._share:
            self._address = (self._address + self._next_shared) % PAGE_BYTES
        else:
            self._phase = 0
            self._address = self._position = (self._position + self._row) % PAGE_BYTES

    def enter(self, arrived: int) -> None:
        """To the first row of the next tile, which another turn of loop ``arrived`` begins with."""
        if arrived == BATCH:
            self._batch_base = self._head_base = (self._batch_base + self._batch) % PAGE_BYTES
        elif arrived == HEAD:
            self._head_base = (self._head_base + self._head) % PAGE_BYTES
        if arrived in (BATCH, HEAD) or (arrived == GROUP and self._again):
            self._address = self._position = self._head_base
            self._phase = 0

    def state(self) -> tuple[int, ...]:
        places = (self._address, self._position, self._phase, self._head_base, self._batch_base)
        return () if self._never_cut else places


class Walk:
    """Place of a walker in ``for batch: for head: for group: for tile`` of its job.

    Members
    -------
    job
        The job under way, None between jobs.
    jobs
        Its queue.
    job_number
        The job's number in the ring, from 1 on.
    at
        Numbers of the batch entry, head, group and tile that it offers.
    offered
        First cycle in which it does; unknown between jobs.
    arrived
        The outermost loop that moved on before this tile, -1 for a job's first.
    """

    def __init__(self, depth: int, latencies: Latencies) -> None:
        self.jobs = JobQueue(depth, latencies)
        self.job: Descriptor | None = None
        self.job_number = 0
        self.at = [0, 0, 0, 0]
        self.offered = UNKNOWN
        self.arrived = -1
        self._idle_from = LONG_AGO
        self._offer = latencies.offer

    def start(self) -> None:
        """Take the next job, if there is none under way and one waits."""
        if self.job is None and (taken := self.jobs.take(self._idle_from)) is not None:
            cycle, self.job, self.job_number = taken
            self.offered = cycle + self._offer
            self.arrived = -1

    @property
    def group_tiles(self) -> int:
        """Query tiles of the group: large groups come first."""
        assert self.job is not None
        return self.job.group_tiles - (self.at[GROUP] >= self.job.large_groups)

    @property
    def is_last_group(self) -> bool:
        assert self.job is not None
        return self.at[GROUP] == self.job.groups - 1

    def step(self, cycle: int, tiles: int) -> None:
        """The tile, one of ``tiles``, is taken in ``cycle``: on to the next one."""
        job, at = self.job, self.at
        assert job is not None
        self.offered = cycle + self._offer
        for loop, count in ((TILE, tiles), (GROUP, job.groups), (HEAD, job.heads), (BATCH, job.batch)):
            at[loop] += 1
            if at[loop] < count:
                self.arrived = loop
                return
            at[loop] = 0
        self.job = None
        self.offered = UNKNOWN
        self._idle_from = cycle + 1
        self.start()

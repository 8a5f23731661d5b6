"""Loading: walkers ask for rows, an arbiter grants one at a time, a tile is there after its last word."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from ...spec import Config
from .bus import LONG_AGO, UNKNOWN, ReadPath
from .latencies import Latencies
from .walk import TILE, Rows, Walk

__all__ = ["DEADLINES", "Arbiter", "LoadWalker", "Loader", "RowWalker"]

#: First uses are counted modulo this; the order of two that are half of it apart is the other one.
DEADLINES = 1 << 16
#: Jobs that wait in a load walker's queue.
QUEUE_DEPTH = 3


class RowWalker(Walk):
    """Asks for rows of one tensor, which are read into buffers; for the first row of each when a buffer is free.

    Members
    -------
    valid
        First cycle in which a row is asked for; unknown if there is no job or no buffer.
    deadline
        Iteration that first uses what is under way, modulo ``DEADLINES``.
    loaded
        Of everything granted in full and not used yet: the first cycle in which it may be used.
    """

    def __init__(self, config: Config, tensor: str) -> None:
        latencies = Latencies(config)
        super().__init__(QUEUE_DEPTH, latencies)
        self._config = config
        self._tensor = tensor
        self._latencies = latencies
        self.valid = UNKNOWN
        self._first_deadline = 1 if tensor == "v" else 0
        self.restart()
        self.loaded: deque[int] = deque()
        self._busy = False  # there is a tile under way
        self._ended = LONG_AGO  # the latest tile's last row was granted
        self._row = self._tile_rows = 0
        self._group_tiles = self._group_iterations = 0  # of the tile under way
        self._ready = LONG_AGO  # the next row could be asked for if a buffer were free
        self._buffers: deque[int] = deque()  # when each free buffer became so

    @property
    def _needs_buffer(self) -> bool:
        """Whether the next row is the first one of a buffer."""
        return self._row == 0

    def restart(self) -> None:
        """Count iterations anew: the machine is empty."""
        self.deadline, self.group_start = self._first_deadline, 0

    def release(self, issued: int) -> None:
        """The array reads a buffer for the last time in the microword issued in that cycle."""
        self._buffers.append(issued + self._latencies.release)
        if self._busy and self._needs_buffer:
            self._ask()

    def _ask(self) -> None:
        if not self._needs_buffer:
            self.valid = self._ready
        else:
            self.valid = max(self._ready, self._buffers[0]) if self._buffers else UNKNOWN

    def advance(self, iterations: int) -> None:
        """The first uses of everything to come move by so many iterations."""
        self.deadline += iterations
        self.group_start += iterations

    def state(self) -> tuple[int, ...]:
        """Every cycle that what comes next may depend on."""
        return (self.valid, self.offered, self._ready, self._ended, *self._buffers, LONG_AGO, *self.loaded)


class LoadWalker(RowWalker):
    """Asks for the rows of queries, keys or values; a buffer is a tile's. Iterations of a group are told with its last tile."""

    def __init__(self, config: Config, tensor: str) -> None:
        super().__init__(config, tensor)
        latencies = self._latencies
        self._loaded_after = {"q": latencies.query_loaded, "k": latencies.key_loaded, "v": latencies.value_loaded}[tensor]
        self._slots = 0

    def start(self) -> None:
        super().start()
        if not self._busy and self.job is not None:
            self._take()

    def grant(self, cycle: int, path: ReadPath) -> None:
        """Read the row that is asked for."""
        taken = path.run(cycle, self._rows.bursts)
        self._rows.next_row()
        if self._needs_buffer:
            self._buffers.popleft()
        self._row += 1
        if self._row < self._tile_rows:
            self.valid = cycle + 1
            return
        self.loaded.append(taken + self._loaded_after)
        self.valid = UNKNOWN
        self._end_tile(cycle)

    def _end_tile(self, cycle: int) -> None:
        """The tile needs nothing more from that cycle on."""
        self._ended = cycle
        self._busy = False
        if self._tensor != "q":
            self.deadline += self._group_tiles
        elif self._group_iterations:
            self.group_start += self._group_iterations
            self.deadline = self.group_start
        else:
            self.deadline += 1
        if self.job is not None:
            self._take()

    def _take(self) -> None:
        """Take the tile that is offered."""
        job = self.job
        assert job is not None
        config, cycle = self._config, max(self._ended + self._latencies.next_tile, self.offered)
        if self.arrived < 0:
            beats = config.beats(getattr(job, "f" if self._tensor == "v" else "e"))
            self._rows = Rows(config, job, self._tensor, beats + (job.row_scale if self._tensor == "q" else 0))
            slots = {"q": job.query_slots, "k": 3 if job.values_in_keys else 2, "v": 2}[self._tensor]
            # Another number of slots comes with another program, when all buffers are free.
            if slots != self._slots:
                self._buffers = deque([LONG_AGO] * slots)
                self._slots = slots
        else:
            self._rows.enter(self.arrived)
        self._group_tiles = self.group_tiles
        if self._tensor == "q":
            tiles, rows, last_rows = self._group_tiles, config.columns, job.last_queries
            last = self.at[TILE] == tiles - 1
            self._group_iterations = tiles * job.key_tiles if last else 0
            last = last and self.is_last_group
        else:
            tiles, rows, last_rows = job.key_tiles, config.rows, job.last_keys
            last = self.at[TILE] == tiles - 1
        self._tile_rows = last_rows if last else rows
        self._row = 0
        self._busy = True
        self._ready = cycle + self._latencies.first_row
        # The queries of a job that continues another are there.
        there = self._tensor == "q" and job.continued
        if not there:
            self._ask()
        self.step(cycle, tiles)
        if there:
            self._end_tile(self._ready)

    def shape(self) -> tuple[int, ...]:
        """What else it depends on, the numbers of the loops aside."""
        tile = (self._busy, self._row, self._tile_rows, self._group_tiles, self._group_iterations, self.arrived)
        return (*tile, len(self._buffers), len(self.loaded), *self._rows.state())


class Loader(Protocol):
    """A walker that asks for rows."""

    valid: int
    deadline: int

    def grant(self, cycle: int, path: ReadPath) -> None:
        """Read the row that is asked for."""
        ...


class Arbiter:
    """Grants descriptors and programs first, then the row that is used first; ties in the order of the walkers.

    Parameters
    ----------
    walkers
        Of queries, keys, mask bits, biases and values, in this order.

    Members
    -------
    control
        First cycle in which the dispatcher asks for a run; unknown if it does not.
    """

    def __init__(self, walkers: Sequence[Loader], path: ReadPath) -> None:
        self._walkers = walkers
        self._path = path
        self.control = UNKNOWN

    @property
    def next_grant(self) -> int:
        """Cycle of the next grant, as far as is known now."""
        earliest = self.control
        for walker in self._walkers:
            if walker.valid < earliest:
                earliest = walker.valid
        return max(earliest, self._path.free) if earliest < UNKNOWN else UNKNOWN

    def choose(self, cycle: int) -> Loader | None:
        """Whose row is granted in that cycle; None is the dispatcher's."""
        if self.control <= cycle:
            return None
        asking = [walker for walker in self._walkers if walker.valid <= cycle]
        if len(asking) == 1:
            return asking[0]
        return next(
            walker
            for number, walker in enumerate(asking)
            if not any(self._before(other, walker) for other in asking[number + 1 :])
        )

    @staticmethod
    def _before(one: Loader, other: Loader) -> bool:
        """Whether ``one`` is used before ``other``, in the arithmetic of the hardware."""
        return (one.deadline - other.deadline) % DEADLINES >= DEADLINES // 2

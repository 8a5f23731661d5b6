"""Storing: results of a query tile go to memory once its last SLNV has passed the lanes."""

from __future__ import annotations

from ...spec import Config
from .bus import LONG_AGO, WritePath
from .latencies import Latencies
from .walk import TILE, Rows, Walk

__all__ = ["Store"]

#: Jobs that wait in the store engine's queue.
QUEUE_DEPTH = 7


class Store(Walk):
    """Writes the results of one query tile after the other.

    Members
    -------
    ended
        For every job that is complete: the first cycle in which the head register says so.
    """

    def __init__(self, config: Config, path: WritePath) -> None:
        self._latencies = Latencies(config)
        super().__init__(QUEUE_DEPTH, self._latencies)
        self._config = config
        self.path = path
        self.ended: list[int] = []
        self._asked = LONG_AGO  # last word of the latest tile

    def write(self, issued: int) -> int:
        """Write a query tile whose last SLNV is issued in that cycle; from when its room in the output buffers is free."""
        job, config = self.job, self._config
        assert job is not None
        cycle = max(self._asked + self._latencies.next_tile, self.offered)
        if self.arrived < 0:
            beats = config.beats(job.f, 4 if job.float32_out else 2)
            self._rows = Rows(config, job, "o", beats + job.state_out)
        else:
            self._rows.enter(self.arrived)
        tiles = self.group_tiles
        last = self.is_last_group and self.at[TILE] == tiles - 1
        number = self.job_number
        self.step(cycle, tiles)
        earliest = max(issued + self._latencies.results, cycle + self._latencies.first_row)
        for _ in range(job.last_queries if last else config.columns):
            self._asked = self.path.row(earliest, self._rows.bursts)
            self._rows.next_row()
        if self.job is None or self.job_number != number:
            self.ended.append(self.path.answered + self._latencies.head)
        return self._asked + self._latencies.output_freed

    def state(self) -> tuple[int, ...]:
        """Every cycle that what comes next may depend on."""
        return (self.offered, self._asked, *self.path.state())

    def shape(self) -> tuple[int, ...]:
        """What else it depends on, the numbers of the loops aside."""
        return (self.arrived, *(self._rows.state() if self.arrived >= 0 else ()))

"""Loading and issue go on: while there is a job, the next row or tile comes soon, whatever stalls there are."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal

from fusemax.planning.masks import UNBOUNDED
from fusemax.spec import CONFIGS
from fusemax_hw.control.issue_walker import IssueWalker
from fusemax_hw.control.load_walker import LoadWalker

from .solver import Harness

__all__ = ["LONGEST", "Issue", "Loading", "LoadingValues"]

#: Cycles without a row or a tile, while nothing is missing.
LONGEST = 8


def is_job(job: Any) -> Any:
    """A job as the descriptor check lets pass, with loops of up to three rounds."""
    right = (job.large_groups != 0) & (job.large_groups <= job.groups) & (job.groups <= 3)
    right &= (job.group_tiles <= 3) & ((job.group_tiles > 1) | ((job.group_tiles == 1) & (job.large_groups == job.groups)))
    for name in ("heads", "batch"):
        right &= (job[name] != 0) & (job[name] <= 3)
    return right


class Loading(Harness):
    """Rows of K or V: two buffers, and an array that gives back a tile a few cycles after its last row."""

    tensor = "k"

    def build(self, m: Module) -> dict[str, Any]:
        config = CONFIGS["tiny"]
        m.submodules.walker = walker = LoadWalker(config, self.tensor)
        job = walker.jobs.payload
        self.offer(walker.jobs, "job")
        self.assume(~walker.jobs.valid | is_job(job))
        self.assume(~walker.jobs.valid | ((job.key_tiles != 0) & (job.key_tiles <= 3)))
        self.assume(~walker.jobs.valid | ((job.last_keys != 0) & (job.last_keys <= config.rows)))
        self.drive(walker.rows.ready, "ready")
        self.drive(walker.release, "release")
        rows = walker.rows
        loaded = Signal(3)
        m.d.sync += loaded.eq(loaded + (rows.valid & rows.ready & rows.payload.tag.last) - walker.release)
        self.assume(~walker.release | (loaded != 0))
        # A buffer that is full is freed soon.
        full = Signal(3)
        m.d.sync += full.eq(Mux(walker.release | (loaded < 2), 0, full + 1))
        self.assume(full < 4)
        waits = Signal(5)
        m.d.sync += waits.eq(Mux(rows.valid | walker.jobs.ready, 0, waits + 1))
        return {"the next row comes": waits < LONGEST + 4, "no more than two tiles": loaded <= 2}


class LoadingValues(Loading):
    """Rows of V."""

    tensor = "v"


class Issue(Harness):
    """Tiles for the array, of jobs without a mask."""

    def build(self, m: Module) -> dict[str, Any]:
        config = CONFIGS["tiny"]
        m.submodules.walker = walker = IssueWalker(config)
        job = walker.jobs.payload
        self.offer(walker.jobs, "job")
        self.assume(~walker.jobs.valid | is_job(job))
        self.assume(~walker.jobs.valid | ((job.key_tiles != 0) & (job.key_tiles <= 3) & (job.share != 0)))
        self.assume(~walker.jobs.valid | ((job.mask_lo == -UNBOUNDED) & (job.mask_hi == UNBOUNDED)))
        self.drive(walker.tiles.ready, "ready")
        waits = Signal(5)
        m.d.sync += waits.eq(Mux(walker.tiles.valid | walker.jobs.ready, 0, waits + 1))
        return {"the next tile comes": waits < LONGEST, "offers stay": self.kept(walker.tiles)}

"""Loading of mask bits and biases: a walker asks for a row of every query of a group, block of keys after block of keys."""

from __future__ import annotations

from collections import deque

from ...planning.pair_rows import bias_beats
from ...spec import PAGE_BYTES, Config
from .bus import LONG_AGO, UNKNOWN, ReadPath, cut
from .load import RowWalker
from .walk import BATCH, GROUP, HEAD, TILE

__all__ = ["PairWalker"]


class PairWalker(RowWalker):
    """Asks for the rows of mask bits (``m``) or biases (``b``); a buffer is that of a block of keys, for a whole group.

    The innermost of the loops goes through the query tiles of a group once for every block.
    """

    def __init__(self, config: Config, tensor: str) -> None:
        super().__init__(config, tensor)
        self._beats = 0
        self._first = self._block_end = self._group_end = False
        self._buffers = deque([LONG_AGO] * 2)
        # Places in a page: of the row, of its position's first one, its number in the position; of the group's first row.
        self._query = self._group = (0, 0, 0)
        self._block = self._head_base = self._batch_base = 0

    def start(self) -> None:
        super().start()
        if not self._busy and self.job is not None:
            self._take()

    @property
    def _needs_buffer(self) -> bool:
        return self._first and self._row == 0

    def grant(self, cycle: int, path: ReadPath) -> None:
        """Read the row that is asked for."""
        taken = path.run(cycle, cut(self._config, (self._query[0] + self._block) % PAGE_BYTES, self._beats))
        self._next_row()
        if self._needs_buffer:
            self._buffers.popleft()
        self._row += 1
        if self._row < self._tile_rows:
            self.valid = cycle + self._latencies.next_pair
            return
        if self._block_end:
            self.loaded.append(taken + self._latencies.query_loaded)
            self.deadline += self._group_tiles * (max(1, self._config.mask_block_tiles) if self._tensor == "m" else 1)
            if self._group_end:
                self.group_start += self._group_iterations
                self.deadline = self.group_start
        self.valid = UNKNOWN
        self._ended = cycle
        self._busy = False
        if self.job is not None:
            self._take()

    def _next_row(self) -> None:
        row, position, share = self._query
        if share + 1 == self._share:
            position = (position + self._strides["row"]) % PAGE_BYTES
            self._query = position, position, 0
        else:
            self._query = (row + self._strides["share"]) % PAGE_BYTES, position, share + 1

    def _take(self) -> None:
        """Take the tile that is offered."""
        job = self.job
        assert job is not None
        config, cycle = self._config, max(self._ended + self._latencies.next_tile, self.offered)
        name, tiles = self._tensor, self.group_tiles
        number = self.at[TILE] % tiles
        blocks = job.mask_blocks if name == "m" else job.key_tiles
        self._enter()
        self._group_tiles, self._group_iterations = tiles, tiles * job.key_tiles
        self._first, self._block_end = number == 0, number == tiles - 1
        self._group_end = self.at[TILE] == blocks * tiles - 1
        last = self._block_end and self.is_last_group
        self._tile_rows = job.last_queries if last else config.columns
        self._row = 0
        self._busy = True
        self._ready = cycle + self._latencies.first_pair
        self._ask()
        self.step(cycle, blocks * tiles)

    def _enter(self) -> None:
        """To the first row of the tile that is offered."""
        job, name = self.job, self._tensor
        assert job is not None
        if self.arrived < 0:
            self._strides = {loop: getattr(job, f"{name}_{loop}_stride") for loop in ("row", "share", "head", "batch")}
            self._share = job.share
            self._beats = 1 if name == "m" else bias_beats(self._config, wide=bool(job.bias_wide))
            self._head_base = self._batch_base = getattr(job, f"{name}_address") % PAGE_BYTES
        elif self.arrived == BATCH:
            self._head_base = self._batch_base = (self._batch_base + self._strides["batch"]) % PAGE_BYTES
        elif self.arrived == HEAD:
            self._head_base = (self._head_base + self._strides["head"]) % PAGE_BYTES
        if self.arrived in (-1, BATCH, HEAD):
            self._query = self._group = self._head_base, self._head_base, 0
            self._block = 0
        elif self.arrived == GROUP:
            self._group, self._block = self._query, 0
        elif self.at[TILE] % self.group_tiles == 0:
            self._query = self._group
            self._block = (self._block + self._beats * self._config.bus_bytes) % PAGE_BYTES

    def shape(self) -> tuple[int, ...]:
        """What else it depends on, the numbers of the loops aside."""
        tile = (self._busy, self._row, self._tile_rows, self._first, self._block_end, self._group_end, self.arrived)
        group = (self._group_tiles, self._group_iterations, self.group_start - self.deadline)
        places = (*self._query, *self._group, self._block, self._head_base, self._batch_base)
        return (*tile, *group, len(self._buffers), len(self.loaded), *places)

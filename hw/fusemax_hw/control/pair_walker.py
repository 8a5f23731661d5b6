"""Pair walker: rows of mask bits or biases, which every query has for itself, in the order in which the array needs them."""

from typing import Any, NamedTuple

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config, ceil_div

from .countdown import Countdown
from .job import job_layout, tensor_fields
from .load_walker import DEADLINE_BITS, LoadKind, row_layout
from .tile_walker import TileWalker

__all__ = ["PairWalker"]


class Walk(NamedTuple):
    """Walk through the rows of a query tile, for a block of keys.

    Members
    -------
    tile, next_tile
        Tile under way, and the one that ``take`` takes.
    first, row, last
        It is the block's first row; its number in the tile; it is the tile's last one.
    pending, accepted, take
        A row is there and is not asked for; it was asked for; a tile is taken.
    """

    tile: data.View
    next_tile: data.View
    first: Signal
    row: Signal
    last: Signal
    pending: Signal
    accepted: Signal
    take: Signal


class PairWalker(wiring.Component):
    """Walk through what belongs to pairs of a query and a key, in order of use.

    The loops are ``for batch: for head: for group: for block: for query tile: for row``. A block is what a bus word has of a
    mask row, or a key tile of a bias row. There are buffers for two blocks of a whole group; the first row of a block is asked
    for when one of them is free. There is a row in two cycles: its address is that of its query and that of the block, added.

    Parameters
    ----------
    config : Config
        Machine.
    tensor : str
        ``m`` for masks or ``b`` for biases.

    Members
    -------
    jobs : In(stream.Signature(job_layout(tensor_fields(tensor))))
        Jobs that have a mask, or a bias.
    release : In(1)
        The array has read a block for the last time: high for a cycle.
    rows : Out(stream.Signature(row_layout(config)))
        Rows to read; the deadline is there a cycle before the row is.

    Raises
    ------
    ValueError
        If ``tensor`` is neither ``m`` nor ``b``.
    """

    def __init__(self, config: Config, tensor: str):
        if tensor not in ("m", "b"):
            raise ValueError(f"tensor must be 'm' or 'b', not {tensor!r}")
        self.config = config
        self.tensor = tensor
        super().__init__(
            {
                "jobs": In(stream.Signature(job_layout(tensor_fields(tensor)))),
                "release": In(1),
                "rows": Out(stream.Signature(row_layout(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.tiles = tiles = TileWalker(self.config, self.tensor)
        wiring.connect(m, wiring.flipped(self.jobs), tiles.jobs)
        walk = self._walk_rows(m, tiles)
        beats = Signal(9)
        if self.tensor == "b":
            narrow, wide = (ceil_div(self.config.rows * bits, self.config.bus_bits) for bits in (16, 32))
            m.d.comb += beats.eq(Mux(walk.tile.job.bias_wide, wide, narrow))
        else:
            m.d.comb += beats.eq(1)
        address = self._memory_address(m, walk, beats)
        self._ask(m, walk)
        base = self._bank_address(m, walk)
        deadline = self._deadline(m, walk)
        self._describe_row(m, walk, address, beats, base, deadline)
        return m

    def _walk_rows(self, m: Module, tiles: TileWalker) -> Walk:
        """Take a tile and count its rows."""
        next_tile = tiles.tiles.payload
        tile = Signal(next_tile.shape())
        running, first, pending = Signal(), Signal(), Signal()
        rows, row = Countdown(m, 8, "rows"), Signal(8)
        accepted, take = Signal(), Signal()
        m.d.comb += [
            accepted.eq(self.rows.valid & self.rows.ready),
            tiles.tiles.ready.eq(~running),
            take.eq(tiles.tiles.valid & tiles.tiles.ready),
        ]
        with m.If(accepted):
            m.d.sync += [row.eq(row + 1), first.eq(0)]
            rows.step(0)
            with m.If(rows.last):
                m.d.sync += running.eq(0)
        with m.If(take):
            m.d.sync += [tile.eq(next_tile), running.eq(1), row.eq(0)]
            m.d.sync += first.eq(next_tile.jump | next_tile.again | next_tile.group_start)
            rows.start(next_tile.rows)
        return Walk(tile, next_tile, first, row, rows.last, pending, accepted, take)

    def _memory_address(self, m: Module, walk: Walk, beats: Signal) -> Signal:
        """Address of the row in memory: of the query's row, its position's first one, and of the block in it.

        Every block begins again with the group's first query.
        """
        config, tensor, job, next_tile = self.config, self.tensor, walk.tile.job, walk.next_tile
        layout = data.StructLayout({"row": config.address_bits, "position": config.address_bits, "share": 8})
        query, group = Signal(layout), Signal(layout)
        block, address = Signal(config.address_bits), Signal(config.address_bits)
        next_position, next_row = Signal(config.address_bits), Signal(config.address_bits)
        share_last = Signal()
        # These settle in the cycle behind a step, in which no row is asked for.
        m.d.sync += [
            address.eq(query.row + block),
            next_position.eq(query.position + job[f"{tensor}_row_stride"]),
            next_row.eq(query.row + job[f"{tensor}_share_stride"]),
            share_last.eq(query.share == job.share - 1),
        ]
        with m.If(walk.accepted):
            with m.If(share_last):
                m.d.sync += [query.row.eq(next_position), query.position.eq(next_position), query.share.eq(0)]
            with m.Else():
                m.d.sync += [query.row.eq(next_row), query.share.eq(query.share + 1)]
        with m.If(walk.take):
            with m.If(next_tile.jump):
                for place in (query, group):
                    m.d.sync += [place.row.eq(next_tile.address), place.position.eq(next_tile.address), place.share.eq(0)]
                m.d.sync += block.eq(0)
            with m.Elif(next_tile.again):
                m.d.sync += [query.eq(group), block.eq(block + (beats << exact_log2(config.bus_bytes)))]
            with m.Elif(next_tile.group_start):
                m.d.sync += [group.eq(query), block.eq(0)]
        return address

    def _ask(self, m: Module, walk: Walk) -> None:
        """Ask for a row, a block's first one when there is a buffer."""
        free = Signal(2, init=2)
        may_ask = Signal()
        m.d.sync += free.eq(free - (walk.accepted & walk.first) + self.release)
        m.d.comb += may_ask.eq(~walk.first | (free != 0) | self.release)
        with m.If(walk.take):
            m.d.sync += [walk.pending.eq(1), self.rows.valid.eq(0)]
        with m.Elif(walk.accepted):
            m.d.sync += [walk.pending.eq(~walk.last), self.rows.valid.eq(0)]
        with m.Elif(walk.pending):
            m.d.sync += [walk.pending.eq(~may_ask), self.rows.valid.eq(may_ask)]

    def _bank_address(self, m: Module, walk: Walk) -> Signal:
        """Address of the row in the column's bank: one slot per query tile of the group, twice."""
        config = self.config
        if self.tensor == "m":
            bases, words = [config.mask_base, config.mask_base + config.mask_tiles], 1
        else:
            bases, words = [config.bias_base, config.bias_base + config.bias_tiles * config.bias_words], config.bias_words
        base = Signal.like(self.rows.payload.tag.base, init=bases[0])
        second = Signal()
        with m.If(walk.accepted & walk.last):
            m.d.sync += base.eq(base + words)
            with m.If(walk.tile.block_end):
                m.d.sync += [second.eq(~second), base.eq(Mux(second, bases[0], bases[1]))]
        return base

    def _deadline(self, m: Module, walk: Walk) -> Signal:
        """Count the iterations from the latest restart to about the one that first uses the block."""
        tile, next_tile = walk.tile, walk.next_tile
        deadline, group_start, iterations = Signal(DEADLINE_BITS), Signal(DEADLINE_BITS), Signal(DEADLINE_BITS)
        key_tiles = max(1, self.config.mask_block_tiles) if self.tensor == "m" else 1
        fewer = next_tile.job.group_iterations - next_tile.job.key_tiles
        with m.If(walk.take):
            m.d.sync += iterations.eq(Mux(next_tile.large, next_tile.job.group_iterations, fewer))
        next_start = Signal(DEADLINE_BITS)
        m.d.comb += next_start.eq(group_start + iterations)
        with m.If(walk.accepted & walk.last & tile.block_end):
            m.d.sync += deadline.eq(deadline + (tile.group_tiles << exact_log2(key_tiles)))
            with m.If(tile.group_end):
                m.d.sync += [group_start.eq(next_start), deadline.eq(next_start)]
        # Jobs that have a mask, or a bias, follow others only after a restart.
        with m.If(self.jobs.valid & self.jobs.ready & self.jobs.payload.restart):
            m.d.sync += [deadline.eq(0), group_start.eq(0)]
        return deadline

    def _describe_row(self, m: Module, walk: Walk, address: Signal, beats: Signal, base: Signal, deadline: Signal) -> None:
        """Describe the row to the arbiter, and to the loader, which gets the tag back with every word."""
        config, row, tag, job = self.config, self.rows.payload, self.rows.payload.tag, walk.tile.job
        m.d.comb += [
            row.address.eq(address),
            row.beats.eq(beats),
            row.deadline.eq(deadline),
            tag.kind.eq({"m": LoadKind.MASK, "b": LoadKind.BIAS}[self.tensor]),
            tag.place.eq(walk.row),
            tag.base.eq(base),
            tag.tail.eq((config.rows - 1) % config.beat_elements + 1),
            tag.last.eq(walk.last & walk.tile.block_end),
        ]
        if self.tensor == "b":
            m.d.comb += [tag.scale.eq(job.bias_scale), tag.wide.eq(job.bias_wide)]

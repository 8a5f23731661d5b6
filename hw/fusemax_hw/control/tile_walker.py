"""Tile walker: the tiles of one tensor of every job, and where in memory a run of them begins."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .job import ROW_FIELDS, job_layout, nest, tensor_fields

__all__ = ["TileWalker", "tensor_tile_layout"]


def tensor_tile_layout(config: Config, tensor: str) -> data.StructLayout:
    """A tile of a tensor."""
    blocks = {
        "again": 1,  #: another block of keys for the same query tiles begins
        "group_start": 1,  #: the first block of another group begins
        "block_end": 1,  #: the block's last tile
    }
    return data.StructLayout(
        {
            "jump": 1,  #: the first row is at ``address``; else it follows the tile before
            "address": unsigned(config.address_bits),
            "rows": unsigned(8),  #: rows that exist, less one
            "group_tiles": unsigned(16),  #: query tiles of the group
            "large": 1,  #: it is a large group
            "group_end": 1,  #: the group's last tile
            "job_end": 1,  #: the job's last tile
            **(blocks if tensor in ("m", "b") else {}),
            "job": job_layout(ROW_FIELDS[tensor]),  #: ``restart`` is set for a job's first tile only
        }
    )


class TileWalker(wiring.Component):
    """Walk through the tiles of one tensor of every job.

    The loops are ``for batch: for head: for group: for tile``. Whoever takes the tiles walks through their rows meanwhile.
    There is at most a tile in :attr:`period` cycles: what a step depends on is compared in the cycle before it, into
    registers.

    Parameters
    ----------
    config : Config
        Machine.
    tensor : str
        ``q`` or ``o``: every tile once. ``k`` or ``v``: a head's tiles once per group. ``m`` or ``b``: the query tiles of a
        group once for every block of its keys.

    Members
    -------
    jobs : In(stream.Signature(job_layout(tensor_fields(tensor))))
        Jobs.
    tiles : Out(stream.Signature(tensor_tile_layout(config, tensor)))
        Tiles.

    Raises
    ------
    ValueError
        If ``tensor`` is none of these.
    """

    #: Cycles from a tile to the next.
    period = 2

    def __init__(self, config: Config, tensor: str):
        if tensor not in ROW_FIELDS:
            raise ValueError(f"tensor must be one of {', '.join(ROW_FIELDS)}, not {tensor!r}")
        self.config = config
        self.tensor = tensor
        self._job = job_layout(tensor_fields(tensor))
        super().__init__(
            {
                "jobs": In(stream.Signature(self._job)),
                "tiles": Out(stream.Signature(tensor_tile_layout(config, tensor))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        of_keys, of_pairs = self.tensor in ("k", "v"), self.tensor in ("m", "b")
        job = Signal(self._job)
        out = self.tiles.payload
        running, settled, step = Signal(), Signal(), Signal()
        m.d.comb += [self.tiles.valid.eq(settled), step.eq(settled & self.tiles.ready)]

        # Loops. The comparisons settle in the cycle after a step.
        tile, group = Signal(32, init=1), Signal(32, init=1)
        head, batch = Signal(16, init=1), Signal(16, init=1)
        large, group_last, head_last, batch_last = Signal(), Signal(), Signal(), Signal()
        small_tiles, group_tiles = Signal(16), Signal(16)
        tile_last, last_rows = Signal(), Signal(8)
        m.d.sync += [
            large.eq(group <= job.large_groups),
            group_last.eq(group == job.groups),
            head_last.eq(head == job.heads),
            batch_last.eq(batch == job.batch),
        ]
        m.d.comb += group_tiles.eq(Mux(large, job.group_tiles, small_tiles))
        if of_keys:
            m.d.sync += [tile_last.eq(tile == job.key_tiles), last_rows.eq(job.last_keys - 1)]
            short, rows = tile_last, config.rows
        else:
            last_if_large, last_if_small = Signal(), Signal()
            m.d.sync += [
                last_if_large.eq(tile == job.group_tiles),
                last_if_small.eq(tile == small_tiles),
                last_rows.eq(job.last_queries - 1),
            ]
            m.d.comb += tile_last.eq(Mux(large, last_if_large, last_if_small))
            short, rows = tile_last & group_last, config.columns
        loops = [(tile, tile_last), (group, group_last), (head, head_last), (batch, batch_last)]
        if of_pairs:
            block, block_last = Signal(32, init=1), Signal()
            m.d.sync += block_last.eq(block == job["mask_blocks" if self.tensor == "m" else "key_tiles"])
            loops.insert(1, (block, block_last))
        *inner_ends, group_end, stretch_end, head_end, job_end = nest(m, step, loops)
        for block_end in inner_ends:
            again, group_start = Signal(), Signal()
            m.d.comb += [out.block_end.eq(block_end), out.again.eq(again), out.group_start.eq(group_start)]
            with m.If(step):
                m.d.sync += [again.eq(block_end & ~group_end), group_start.eq(group_end & ~stretch_end)]

        # Where heads begin.
        head_base, batch_base = Signal(config.address_bits), Signal(config.address_bits)
        next_head, next_batch = Signal.like(head_base), Signal.like(head_base)
        m.d.sync += [
            next_head.eq(head_base + job[f"{self.tensor}_head_stride"]),
            next_batch.eq(batch_base + job[f"{self.tensor}_batch_stride"]),
        ]
        jump, restart = Signal(), Signal()
        with m.If(step):
            m.d.sync += [settled.eq(0), jump.eq(group_end if of_keys else stretch_end), restart.eq(0)]
            with m.If(head_end):
                m.d.sync += [head_base.eq(next_batch), batch_base.eq(next_batch)]
            with m.Elif(stretch_end):
                m.d.sync += head_base.eq(next_head)
            with m.If(job_end):
                m.d.sync += running.eq(0)
        with m.Else():
            m.d.sync += settled.eq(running)

        m.d.comb += [
            out.jump.eq(jump),
            out.address.eq(head_base),
            out.rows.eq(Mux(short, last_rows, rows - 1)),
            out.group_tiles.eq(group_tiles),
            out.large.eq(large),
            out.group_end.eq(group_end),
            out.job_end.eq(job_end),
            *(out.job[name].eq(job[name]) for name in ROW_FIELDS[self.tensor]),
            out.job.restart.eq(restart),
        ]

        # Next job.
        new = self.jobs.payload
        m.d.comb += self.jobs.ready.eq(~running)
        with m.If(self.jobs.valid & ~running):
            m.d.sync += [
                running.eq(1),
                job.eq(new),
                small_tiles.eq(new.group_tiles - 1),
                jump.eq(1),
                restart.eq(new.restart),
                head_base.eq(new[f"{self.tensor}_address"]),
                batch_base.eq(new[f"{self.tensor}_address"]),
            ]
        return m

"""Issue walker: the tiles of every job in the order in which the array works on them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .job import ISSUE_FIELDS, group_tiles, job_layout, nest

__all__ = ["IssueWalker", "tile_layout"]


def tile_layout(config: Config) -> data.StructLayout:
    """A tile: one key tile against one query tile."""
    return data.StructLayout(
        {
            "buffer": 1,  #: which of the two K and V buffers
            "query": unsigned((config.query_bank_beats - 1).bit_length()),  #: query bank address of the query tile
            "reference": unsigned((config.reference_words - 1).bit_length()),  #: number of the query tile in its group
            "state": unsigned((config.state_words - 1).bit_length()),  #: state memory address of the query tile
            "keys": unsigned(9),  #: keys that exist
            "queries": unsigned(9),  #: queries that exist
            "first": 1,  #: the query tile's first key tile: its queries must have come
            "last": 1,  #: the query tile's last key tile: its result goes out
            "new_keys": 1,  #: the key tile's first query tile: its keys and values must have come
            "free_keys": 1,  #: the key tile's last query tile
            "float32_out": 1,
            "output_slots": unsigned(16),
        }
    )


class IssueWalker(wiring.Component):
    """Walks ``for batch: for head: for group: for key tile: for query tile``; one tile per cycle.

    Members
    -------
    jobs : In(stream.Signature(job_layout(ISSUE_FIELDS)))
    tiles : Out(stream.Signature(tile_layout(config)))
    """

    def __init__(self, config: Config):
        self.config = config
        self._job = job_layout(ISSUE_FIELDS)
        super().__init__({"jobs": In(stream.Signature(self._job)), "tiles": Out(stream.Signature(tile_layout(config)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        job = Signal(self._job)
        running = Signal()
        step = Signal()
        m.d.comb += step.eq(self.tiles.valid & self.tiles.ready)

        query_tile, key_tile, group = Signal(32), Signal(32), Signal(32)
        head, batch = Signal(16), Signal(16)
        tiles = Signal(16)
        m.d.comb += tiles.eq(group_tiles(job, group))
        query_last = query_tile == tiles - 1
        key_last = key_tile == job.key_tiles - 1
        group_last = group == job.groups - 1
        key_end, group_end, _, _, job_end = nest(
            m,
            step,
            [
                (query_tile, query_last),
                (key_tile, key_last),
                (group, group_last),
                (head, head == job.heads - 1),
                (batch, batch == job.batch - 1),
            ],
        )

        # Query tiles of a group stand one behind the other in a ring; each key tile passes all of them.
        beats = Signal(9)
        out = self.tiles.payload
        slot, group_slot = Signal(16), Signal(16)
        base, group_base = Signal.like(out.query), Signal.like(out.query)
        next_slot, next_base = Signal.like(slot), Signal.like(base)
        state = Signal.like(out.state)
        buffer = Signal()
        wrap = slot == job.query_slots - 1
        m.d.comb += [next_slot.eq(Mux(wrap, 0, slot + 1)), next_base.eq(Mux(wrap, 0, base + beats))]
        with m.If(step):
            m.d.sync += [slot.eq(next_slot), base.eq(next_base), state.eq(state + job.f + 1)]
            with m.If(group_end):
                m.d.sync += [group_slot.eq(next_slot), group_base.eq(next_base)]
            with m.Elif(key_end):
                m.d.sync += [slot.eq(group_slot), base.eq(group_base)]
            with m.If(key_end):
                m.d.sync += [state.eq(0), buffer.eq(~buffer)]

        m.d.comb += [
            self.tiles.valid.eq(running),
            out.buffer.eq(buffer),
            out.query.eq(base),
            out.reference.eq(query_tile),
            out.state.eq(state),
            out.keys.eq(Mux(key_last, job.last_keys, config.rows)),
            out.queries.eq(Mux(query_last & group_last, job.last_queries, config.columns)),
            out.first.eq(key_tile == 0),
            out.last.eq(key_last),
            out.new_keys.eq(query_tile == 0),
            out.free_keys.eq(query_last),
            out.float32_out.eq(job.float32_out),
            out.output_slots.eq(job.output_slots),
        ]

        element_log2 = (config.beat_elements - 1).bit_length()
        new = self.jobs.payload
        m.d.comb += self.jobs.ready.eq(~running)
        with m.If(step & job_end):
            m.d.sync += running.eq(0)
        with m.Elif(~running & self.jobs.valid):
            m.d.sync += [running.eq(1), job.eq(new), beats.eq((new.e + config.beat_elements - 1) >> element_log2)]
            with m.If(new.restart):
                m.d.sync += [slot.eq(0), group_slot.eq(0), base.eq(0), group_base.eq(0)]
        return m

"""Issue walker: the tiles of every job in the order in which the array works on them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .job import ISSUE_FIELDS, job_layout, nest

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
    """Walks ``for batch: for head: for group: for key tile: for query tile``.

    At most a tile in :attr:`period` cycles, as in :class:`~fusemax_hw.control.tile_walker.TileWalker`; an iteration of the
    shortest program is longer.

    Members
    -------
    jobs : In(stream.Signature(job_layout(ISSUE_FIELDS)))
    tiles : Out(stream.Signature(tile_layout(config)))
    """

    #: Cycles from a tile to the next.
    period = 2

    def __init__(self, config: Config):
        self.config = config
        self._job = job_layout(ISSUE_FIELDS)
        super().__init__({"jobs": In(stream.Signature(self._job)), "tiles": Out(stream.Signature(tile_layout(config)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        job = Signal(self._job)
        running, settled, step = Signal(), Signal(), Signal()
        with m.If(step):
            m.d.sync += settled.eq(0)
        with m.Else():
            m.d.sync += settled.eq(running)

        # A register between the loops and whoever takes the tiles.
        out = Signal(self.tiles.payload.shape())
        m.d.comb += step.eq(settled & ~self.tiles.valid)
        with m.If(step):
            m.d.sync += [self.tiles.valid.eq(1), self.tiles.payload.eq(out)]
        with m.Elif(self.tiles.ready):
            m.d.sync += self.tiles.valid.eq(0)

        # Loops. The comparisons settle in the cycle after a step.
        query_tile, key_tile, group = Signal(16, init=1), Signal(32, init=1), Signal(32, init=1)
        head, batch = Signal(16, init=1), Signal(16, init=1)
        large, last_if_large, last_if_small = Signal(), Signal(), Signal()
        key_first, key_last, group_last, head_last, batch_last = Signal(), Signal(), Signal(), Signal(), Signal()
        small_tiles = Signal(16)
        last_keys, last_queries = Signal.like(out.keys), Signal.like(out.queries)
        m.d.sync += [
            large.eq(group <= job.large_groups),
            last_if_large.eq(query_tile == job.group_tiles),
            last_if_small.eq(query_tile == small_tiles),
            key_first.eq(key_tile == 1),
            key_last.eq(key_tile == job.key_tiles),
            group_last.eq(group == job.groups),
            head_last.eq(head == job.heads),
            batch_last.eq(batch == job.batch),
            last_keys.eq(job.last_keys),
            last_queries.eq(job.last_queries),
        ]
        query_last = Mux(large, last_if_large, last_if_small)
        key_end, group_end, _, _, job_end = nest(
            m,
            step,
            [(query_tile, query_last), (key_tile, key_last), (group, group_last), (head, head_last), (batch, batch_last)],
        )

        # Query tiles of a group stand one behind the other in a ring; each key tile passes all of them.
        beats = Signal(9)
        slot, group_slot = Signal(16, init=1), Signal(16, init=1)
        base, group_base = Signal.like(out.query), Signal.like(out.query)
        next_slot, next_base = Signal.like(slot), Signal.like(base)
        number, state, state_words = Signal.like(out.reference), Signal.like(out.state), Signal.like(out.state)
        buffer, wrap = Signal(), Signal()
        m.d.sync += [wrap.eq(slot == job.query_slots), state_words.eq(job.f + 1)]
        m.d.comb += [next_slot.eq(Mux(wrap, 1, slot + 1)), next_base.eq(Mux(wrap, 0, base + beats))]
        with m.If(step):
            m.d.sync += [slot.eq(next_slot), base.eq(next_base), number.eq(number + 1), state.eq(state + state_words)]
            with m.If(group_end):
                m.d.sync += [group_slot.eq(next_slot), group_base.eq(next_base)]
            with m.Elif(key_end):
                m.d.sync += [slot.eq(group_slot), base.eq(group_base)]
            with m.If(key_end):
                m.d.sync += [number.eq(0), state.eq(0), buffer.eq(~buffer)]
            with m.If(job_end):
                m.d.sync += running.eq(0)

        m.d.comb += [
            out.buffer.eq(buffer),
            out.query.eq(base),
            out.reference.eq(number),
            out.state.eq(state),
            out.keys.eq(Mux(key_last, last_keys, config.rows)),
            out.queries.eq(Mux(query_last & group_last, last_queries, config.columns)),
            out.first.eq(key_first),
            out.last.eq(key_last),
            out.new_keys.eq(number == 0),
            out.free_keys.eq(query_last),
            out.float32_out.eq(job.float32_out),
            out.output_slots.eq(job.output_slots),
        ]

        # Next job.
        element_log2 = (config.beat_elements - 1).bit_length()
        new = self.jobs.payload
        m.d.comb += self.jobs.ready.eq(~running)
        with m.If(self.jobs.valid & ~running):
            m.d.sync += [
                running.eq(1),
                job.eq(new),
                small_tiles.eq(new.group_tiles - 1),
                beats.eq((new.e + config.beat_elements - 1) >> element_log2),
            ]
            with m.If(new.restart):
                m.d.sync += [slot.eq(1), group_slot.eq(1), base.eq(0), group_base.eq(0)]
        return m

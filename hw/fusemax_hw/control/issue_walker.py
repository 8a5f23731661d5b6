"""Issue walker: the tiles of every job in the order in which the array works on them."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..words import INTERVAL_BITS
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
            "lo": signed(INTERVAL_BITS),  #: first key that the tile's first query sees, relative to the tile; saturated
            "hi": signed(INTERVAL_BITS),  #: key behind the last one that it sees, likewise
            "phase": unsigned(8),  #: place of the tile's first query among those of its position
            "share": unsigned(8),  #: queries of a position, less one
            "first": 1,  #: the query tile's first key tile: its queries must have come
            "last": 1,  #: the query tile's last key tile: its result goes out
            "new_keys": 1,  #: the key tile's first query tile: its keys and values must have come
            "free_keys": 1,  #: the key tile's last query tile
            "float32_out": 1,
            "state_out": 1,
            "raw_out": 1,
            "output_slots": unsigned(16),
        }
    )


class IssueWalker(wiring.Component):
    """Walks ``for batch: for head: for group: for key tile: for query tile``, without tiles that are masked in full.

    A tile in :attr:`period` cycles, as in :class:`~fusemax_hw.control.tile_walker.TileWalker`; an iteration of the shortest
    program takes no less.

    The intervals of keys that the queries see move on with the queries. So the key tiles that a query tile needs are a run,
    and so are the query tiles that need a key tile. A query tile that sees no key is issued once all the same, with the
    first or the last key tile: its result is zero. In a chain of jobs no tile is left out.

    Members
    -------
    jobs : In(stream.Signature(job_layout(ISSUE_FIELDS)))
    tiles : Out(stream.Signature(tile_layout(config)))
    skipped : Out(1)
        A tile was left out.
    """

    #: Cycles from a tile to the next.
    period = 5

    def __init__(self, config: Config):
        self.config = config
        self._job = job_layout(ISSUE_FIELDS)
        super().__init__(
            {
                "jobs": In(stream.Signature(self._job)),
                "tiles": Out(stream.Signature(tile_layout(config))),
                "skipped": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        job = Signal(self._job)
        running, step = Signal(), Signal()
        # The comparisons settle in the cycles after a step.
        settling = Signal(self.period - 1)
        settled = settling[-1]
        with m.If(step):
            m.d.sync += settling.eq(0)
        with m.Else():
            m.d.sync += settling.eq(Cat(running, settling[:-1]))

        # A register between the loops and whoever takes the tiles.
        out = Signal(self.tiles.payload.shape())
        needed = Signal()
        m.d.comb += step.eq(settled & (~needed | ~self.tiles.valid))
        m.d.sync += self.skipped.eq(step & ~needed)
        with m.If(step & needed):
            m.d.sync += [self.tiles.valid.eq(1), self.tiles.payload.eq(out)]
        with m.Elif(self.tiles.ready):
            m.d.sync += self.tiles.valid.eq(0)

        # Loops.
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
        key_end, group_end, stretch_end, _, job_end = nest(
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
            with m.If(group_end & ~job.continues):
                m.d.sync += [group_slot.eq(next_slot), group_base.eq(next_base)]
            with m.Elif(key_end):
                m.d.sync += [slot.eq(group_slot), base.eq(group_base)]
            with m.If(key_end):
                m.d.sync += [number.eq(0), state.eq(0), buffer.eq(~buffer)]
            with m.If(job_end):
                m.d.sync += running.eq(0)

        # Position of the tile's first query, and what of the keys it sees, relative to the key tile.
        position, group_position, next_position = Signal(32), Signal(32), Signal(32)
        phase, group_phase, next_phase = Signal(8), Signal(8), Signal(8)
        key_base = Signal(32)
        phase_sum, wraps = Signal(9), Signal()
        m.d.comb += [
            phase_sum.eq(phase + job.tile_phase),
            wraps.eq(phase_sum >= job.share),
        ]
        m.d.sync += [
            next_phase.eq(Mux(wraps, phase_sum - job.share, phase_sum)),
            next_position.eq(position + job.tile_positions + wraps),
        ]
        with m.If(step):
            m.d.sync += [position.eq(next_position), phase.eq(next_phase)]
            with m.If(stretch_end):
                m.d.sync += [position.eq(0), phase.eq(0), group_position.eq(0), group_phase.eq(0), key_base.eq(0)]
            with m.Elif(group_end):
                m.d.sync += [group_position.eq(next_position), group_phase.eq(next_phase), key_base.eq(0)]
            with m.Elif(key_end):
                m.d.sync += [position.eq(group_position), phase.eq(group_phase), key_base.eq(key_base + config.rows)]
        distance, lo, hi, advance = (Signal(signed(32), name=name) for name in ("distance", "lo", "hi", "advance"))
        span, past = Signal(signed(32)), Signal(signed(32))
        m.d.sync += [
            distance.eq(position - key_base),
            lo.eq(distance + job.mask_lo),
            hi.eq(distance + job.mask_hi),
            # What is added to ``lo`` and ``hi`` before they are compared with 0.
            advance.eq(job.tile_positions + wraps - config.rows),
            span.eq(job.tile_span - 1),
            past.eq(job.tile_span - 1 - config.rows),
        ]

        # Is it needed, for the first time, for the last time? The comparison with ``advance`` is of the next query tile.
        seen, chained = Signal(), Signal()
        begun, over, ends, ahead, next_ahead = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            chained.eq(job.continues | job.continued),
            begun.eq(lo < 0),
            ahead.eq(lo >= config.rows),
            next_ahead.eq(lo + advance >= 0),
            over.eq(hi + span < 0),
            ends.eq(hi + past < 0),
            needed.eq(chained | (~over & ~ahead) | (key_first & over) | (key_last & ahead)),
        ]
        with m.If(step):
            m.d.sync += seen.eq(~key_end & (seen | needed))

        def saturate(value: Signal) -> Any:
            high = value[INTERVAL_BITS - 2 :]
            limit = Mux(value[-1], -(1 << INTERVAL_BITS - 2), (1 << INTERVAL_BITS - 2) - 1)
            return Mux(high.all() | ~high.any(), value[:INTERVAL_BITS].as_signed(), limit)

        first_bounds = [Signal(signed(INTERVAL_BITS), name=f"saturated_{name}") for name in ("lo", "hi")]
        m.d.sync += [bound.eq(saturate(value)) for bound, value in zip(first_bounds, (lo, hi), strict=True)]

        m.d.comb += [
            out.buffer.eq(buffer),
            out.query.eq(base),
            out.reference.eq(number),
            out.state.eq(state),
            out.keys.eq(Mux(key_last, last_keys, config.rows)),
            out.queries.eq(Mux(query_last & group_last, last_queries, config.columns)),
            out.lo.eq(first_bounds[0]),
            out.hi.eq(first_bounds[1]),
            out.phase.eq(phase),
            out.share.eq(job.share - 1),
            out.first.eq((key_first & ~job.continued) | (~chained & ~begun)),
            out.last.eq((key_last & ~job.continues) | (~chained & ends)),
            out.new_keys.eq(~seen),
            out.free_keys.eq(query_last | (~chained & next_ahead & ~key_last)),
            out.float32_out.eq(job.float32_out),
            out.state_out.eq(job.state_out),
            out.raw_out.eq(job.raw_out),
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
                *(signal.eq(0) for signal in (position, phase, group_position, group_phase, key_base)),
            ]
            with m.If(new.restart):
                m.d.sync += [slot.eq(1), group_slot.eq(1), base.eq(0), group_base.eq(0)]
        return m

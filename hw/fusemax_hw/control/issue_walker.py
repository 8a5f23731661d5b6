"""Issue walker: the tiles of every job in the order in which the array works on them."""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Module, Mux, Signal, ValueLike, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config

from ..words import INTERVAL_BITS, lane_word, north_word
from .job import ISSUE_FIELDS, descriptor_layout, job_layout, nest

__all__ = ["IssueWalker", "tile_layout"]


def tile_layout(config: Config) -> data.StructLayout:
    """A tile: one key tile against one query tile. What words and descriptor have too is as wide as there."""
    north, lane, descriptor = north_word(config), lane_word(config), descriptor_layout()
    return data.StructLayout(
        {
            "buffer": 2,  #: which of the two K and V buffers; with values in the keys of three for both
            "bias_buffer": 1,  #: which of the two buffers of biases
            "query": north["beat"].shape,  #: query bank address of the query tile
            "reference": lane["reference"].shape,  #: number of the query tile in its group
            "state": lane["state"].shape,  #: state memory address of the query tile
            "keys": north["keys"].shape,  #: keys that exist
            "queries": north["queries"].shape,  #: queries that exist
            "lo": north["lo"].shape,  #: first key that the tile's first query sees, relative to the tile; saturated
            "hi": north["hi"].shape,  #: key behind the last one that it sees, likewise
            "phase": north["phase"].shape,  #: place of the tile's first query among those of its position
            "share": north["share"].shape,  #: queries of a position, less one
            "first": 1,  #: the query tile's first key tile: its queries must have come
            "last": 1,  #: the query tile's last key tile: its result goes out
            "new_keys": 1,  #: the key tile's first query tile: its keys and values must have come
            "free_keys": 1,  #: the key tile's last query tile
            "bits": 1,  #: the job has a mask of bits
            "block": 1,  #: which of the two buffers of mask bits
            "element": north["element"].shape,  #: element of the mask's bank word
            "new_bits": 1,  #: the first tile of a block of mask bits: it must have come
            "free_bits": 1,  #: the last one
            "bias_wide": 1,
            **{name: descriptor[name].shape for name in ("float32_out", "state_out", "raw_out", "output_slots")},
        }
    )


class Walk:
    """The job under way, and the step to its next tile.

    Members
    -------
    job, out : Signal
        Job; tile that the loops stand at.
    running, step, needed : Signal(1)
        There is a job; on to the next tile; the tile is not left out.
    """

    def __init__(self, job: data.StructLayout, tile: data.StructLayout):
        self.job = Signal(job)
        self.running = Signal()
        self.step = Signal()
        self.out = Signal(tile)
        self.needed = Signal()


class Loops(NamedTuple):
    """Where the loops stand: at their first or last value, or (``_end``) at the end of all runs inside and their own."""

    small_tiles: Signal
    last_keys: Signal
    last_queries: Signal
    query_last: ValueLike
    key_first: Signal
    key_last: Signal
    group_last: Signal
    key_end: ValueLike
    group_end: ValueLike
    stretch_end: ValueLike
    job_end: ValueLike


class QueryRing(NamedTuple):
    """Bus words of a query, slot and bank address of the tile and of its group's first, its addresses, and the buffers of keys
    and values and of biases."""

    beats: Signal
    slot: Signal
    group_slot: Signal
    base: Signal
    group_base: Signal
    number: Signal
    state: Signal
    buffer: Signal
    bias_buffer: Signal


class MaskBlock(NamedTuple):
    """Key tile in a block of mask bits, which of two buffers the block is in, and whether the tile begins or ends it."""

    element: Signal
    buffer: Signal
    begins: Signal
    ends: Signal


class Position(NamedTuple):
    """Position of the tile's first query, as the interval of keys that it sees, and what moves the interval's bounds."""

    counters: tuple[Signal, ...]
    phase: Signal
    lo: Signal
    hi: Signal
    advance: Signal
    span: Signal
    past: Signal


class Needs(NamedTuple):
    """The key tile was issued before, the job is in a chain, and how the intervals lie to the key tile's bounds."""

    seen: Signal
    chained: Signal
    begun: Signal
    ends: Signal
    next_ahead: Signal


def saturate(value: Signal, bits: int) -> ValueLike:
    """Limit a signed ``value`` to ``bits`` - 1 bits; the result has ``bits``."""
    high = value[bits - 2 :]
    limit = Mux(value[-1], -(1 << bits - 2), (1 << bits - 2) - 1)
    return Mux(high.all() | ~high.any(), value[:bits].as_signed(), limit)


class IssueWalker(wiring.Component):
    """Walk through the tiles of every job, in the array's order.

    The loops are ``for batch: for head: for group: for key tile: for query tile``; tiles that are masked in full are left out.
    There is a tile in :attr:`period` cycles, as in :class:`~fusemax_hw.control.tile_walker.TileWalker`; an iteration of the
    shortest program takes no less.

    The intervals of keys that the queries see move on with the queries. So the key tiles that a query tile needs are a run,
    and so are the query tiles that need a key tile. A query tile that sees no key is issued once all the same, with the
    first or the last key tile: its result is zero. In a chain of jobs no tile is left out.

    Members
    -------
    jobs : In(stream.Signature(job_layout(ISSUE_FIELDS)))
        Jobs; one is taken when all tiles of the one before have been stepped over.
    tiles : Out(stream.Signature(tile_layout(config)))
        Tiles.
    skipped : Out(1)
        A tile was left out: high for a cycle.
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
        walk = Walk(self._job, self.tiles.payload.shape())
        self._step(m, walk)
        loops = self._loops(m, walk)
        ring = self._query_ring(m, walk, loops)
        position = self._position(m, walk, loops)
        needs = self._needs(m, walk, loops, position)
        block = self._mask_block(m, walk, loops)
        self._describe_tile(m, walk, loops, ring, position, needs, block)
        self._next_job(m, walk, ring, position, loops, block)
        return m

    def _step(self, m: Module, walk: Walk) -> None:
        """Step once the comparisons have settled; a register stands between the loops and whoever takes the tiles."""
        settling = Signal(self.period - 1)
        settled = settling[-1]
        with m.If(walk.step):
            m.d.sync += settling.eq(0)
        with m.Else():
            m.d.sync += settling.eq(Cat(walk.running, settling[:-1]))
        m.d.comb += walk.step.eq(settled & (~walk.needed | ~self.tiles.valid))
        m.d.sync += self.skipped.eq(walk.step & ~walk.needed)
        with m.If(walk.step & walk.needed):
            m.d.sync += [self.tiles.valid.eq(1), self.tiles.payload.eq(walk.out)]
        with m.Elif(self.tiles.ready):
            m.d.sync += self.tiles.valid.eq(0)

    def _loops(self, m: Module, walk: Walk) -> Loops:
        """Count batch entries, heads, groups, key tiles and query tiles; compare them with their ends, into registers."""
        job, out = walk.job, walk.out
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
            walk.step,
            [(query_tile, query_last), (key_tile, key_last), (group, group_last), (head, head_last), (batch, batch_last)],
        )
        firsts_and_lasts = (query_last, key_first, key_last, group_last)
        ends = (key_end, group_end, stretch_end, job_end)
        return Loops(small_tiles, last_keys, last_queries, *firsts_and_lasts, *ends)

    def _query_ring(self, m: Module, walk: Walk, loops: Loops) -> QueryRing:
        """Follow the query tiles of a group, one behind the other in a ring; each key tile passes all of them."""
        job, out = walk.job, walk.out
        beats = Signal(9)
        slot, group_slot = Signal(16, init=1), Signal(16, init=1)
        base, group_base = Signal.like(out.query), Signal.like(out.query)
        next_slot, next_base = Signal.like(slot), Signal.like(base)
        number, state, state_words = Signal.like(out.reference), Signal.like(out.state), Signal.like(out.state)
        buffer, bias_buffer, wrap = Signal(2), Signal(), Signal()
        buffer_last = buffer == (Mux(job.values_in_keys, 2, 1) if self.config.values_in_keys else 1)
        m.d.sync += [wrap.eq(slot == job.query_slots), state_words.eq(job.f + 1)]
        m.d.comb += [next_slot.eq(Mux(wrap, 1, slot + 1)), next_base.eq(Mux(wrap, 0, base + beats))]
        with m.If(walk.step):
            m.d.sync += [slot.eq(next_slot), base.eq(next_base), number.eq(number + 1), state.eq(state + state_words)]
            with m.If(loops.group_end & ~job.continues):
                m.d.sync += [group_slot.eq(next_slot), group_base.eq(next_base)]
            with m.Elif(loops.key_end):
                m.d.sync += [slot.eq(group_slot), base.eq(group_base)]
            with m.If(loops.key_end):
                m.d.sync += [number.eq(0), state.eq(0), buffer.eq(Mux(buffer_last, 0, buffer + 1))]
                m.d.sync += bias_buffer.eq(bias_buffer ^ job.bias)
            with m.If(loops.job_end):
                m.d.sync += walk.running.eq(0)
        return QueryRing(beats, slot, group_slot, base, group_base, number, state, buffer, bias_buffer)

    def _position(self, m: Module, walk: Walk, loops: Loops) -> Position:
        """Follow the position of the tile's first query, and what of the keys it sees, relative to the key tile."""
        job, rows = walk.job, self.config.rows
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
        with m.If(walk.step):
            m.d.sync += [position.eq(next_position), phase.eq(next_phase)]
            with m.If(loops.stretch_end):
                m.d.sync += [position.eq(0), phase.eq(0), group_position.eq(0), group_phase.eq(0), key_base.eq(0)]
            with m.Elif(loops.group_end):
                m.d.sync += [group_position.eq(next_position), group_phase.eq(next_phase), key_base.eq(0)]
            with m.Elif(loops.key_end):
                m.d.sync += [position.eq(group_position), phase.eq(group_phase), key_base.eq(key_base + rows)]
        distance, lo, hi, advance = (Signal(signed(32), name=name) for name in ("distance", "lo", "hi", "advance"))
        span, past = Signal(signed(32)), Signal(signed(32))
        m.d.sync += [
            distance.eq(position - key_base),
            lo.eq(distance + job.mask_lo),
            hi.eq(distance + job.mask_hi),
            # What is added to ``lo`` and ``hi`` before they are compared with 0.
            advance.eq(job.tile_positions + wraps - rows),
            span.eq(job.tile_span - 1),
            past.eq(job.tile_span - 1 - rows),
        ]
        return Position((position, phase, group_position, group_phase, key_base), phase, lo, hi, advance, span, past)

    def _needs(self, m: Module, walk: Walk, loops: Loops, position: Position) -> Needs:
        """Find whether the tile is needed, for the first time, for the last time."""
        job, rows, lo, hi = walk.job, self.config.rows, position.lo, position.hi
        seen, chained = Signal(), Signal()
        begun, over, ends, ahead, next_ahead = Signal(), Signal(), Signal(), Signal(), Signal()
        m.d.sync += [
            chained.eq(job.continues | job.continued),
            begun.eq(lo < 0),
            ahead.eq(lo >= rows),
            # Of the next query tile.
            next_ahead.eq(lo + position.advance >= 0),
            over.eq(hi + position.span < 0),
            ends.eq(hi + position.past < 0),
            walk.needed.eq(chained | (~over & ~ahead) | (loops.key_first & over) | (loops.key_last & ahead)),
        ]
        with m.If(walk.step):
            m.d.sync += seen.eq(~loops.key_end & (seen | walk.needed))
        return Needs(seen, chained, begun, ends, next_ahead)

    def _mask_block(self, m: Module, walk: Walk, loops: Loops) -> MaskBlock:
        """Follow the key tiles through the blocks of mask bits."""
        job, last_element = walk.job, max(1, self.config.mask_block_tiles) - 1
        element, buffer, begins, ends = Signal.like(walk.out.element), Signal(), Signal(), Signal()
        full = element == last_element
        m.d.sync += [begins.eq(loops.key_first | (element == 0)), ends.eq(loops.key_last | full)]
        with m.If(walk.step & loops.key_end & job.bit_mask):
            m.d.sync += element.eq(Mux(loops.key_last, job.mask_phase, Mux(full, 0, element + 1)))
            with m.If(ends):
                m.d.sync += buffer.eq(~buffer)
        return MaskBlock(element, buffer, begins, ends)

    def _describe_tile(
        self, m: Module, walk: Walk, loops: Loops, ring: QueryRing, position: Position, needs: Needs, block: MaskBlock
    ) -> None:
        """Describe the tile to whoever takes it."""
        config, job, out = self.config, walk.job, walk.out
        first_bounds = [Signal(signed(INTERVAL_BITS), name=f"saturated_{name}") for name in ("lo", "hi")]
        m.d.sync += [
            bound.eq(saturate(value, INTERVAL_BITS))
            for bound, value in zip(first_bounds, (position.lo, position.hi), strict=True)
        ]
        m.d.comb += [
            out.buffer.eq(ring.buffer),
            out.bias_buffer.eq(ring.bias_buffer),
            out.query.eq(ring.base),
            out.reference.eq(ring.number),
            out.state.eq(ring.state),
            out.keys.eq(Mux(loops.key_last, loops.last_keys, config.rows)),
            out.queries.eq(Mux(loops.query_last & loops.group_last, loops.last_queries, config.columns)),
            out.lo.eq(first_bounds[0]),
            out.hi.eq(first_bounds[1]),
            out.phase.eq(position.phase),
            out.share.eq(job.share - 1),
            out.first.eq((loops.key_first & ~job.continued) | (~needs.chained & ~needs.begun)),
            out.last.eq((loops.key_last & ~job.continues) | (~needs.chained & needs.ends)),
            out.new_keys.eq(~needs.seen),
            out.free_keys.eq(loops.query_last | (~needs.chained & needs.next_ahead & ~loops.key_last)),
            out.bits.eq(job.bit_mask),
            out.block.eq(block.buffer),
            out.element.eq(block.element),
            out.new_bits.eq(job.bit_mask & out.new_keys & block.begins),
            out.free_bits.eq(job.bit_mask & out.free_keys & block.ends),
            out.bias_wide.eq(job.bias_wide),
            out.float32_out.eq(job.float32_out),
            out.state_out.eq(job.state_out),
            out.raw_out.eq(job.raw_out),
            out.output_slots.eq(job.output_slots),
        ]

    def _next_job(self, m: Module, walk: Walk, ring: QueryRing, position: Position, loops: Loops, block: MaskBlock) -> None:
        """Take the next job when the one before is walked through."""
        config = self.config
        new = self.jobs.payload
        m.d.comb += self.jobs.ready.eq(~walk.running)
        with m.If(self.jobs.valid & ~walk.running):
            m.d.sync += [
                walk.running.eq(1),
                walk.job.eq(new),
                loops.small_tiles.eq(new.group_tiles - 1),
                ring.beats.eq((new.e + config.beat_elements - 1) >> exact_log2(config.beat_elements)),
                *(signal.eq(0) for signal in position.counters),
                block.element.eq(new.mask_phase),
            ]
            with m.If(new.restart):
                m.d.sync += [ring.slot.eq(1), ring.group_slot.eq(1), ring.base.eq(0), ring.group_base.eq(0), ring.buffer.eq(0)]

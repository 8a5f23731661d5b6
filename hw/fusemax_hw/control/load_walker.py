"""Load walker: the rows of Q, K or V that the array will need, in the order in which it needs them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .countdown import Countdown
from .job import job_layout, tensor_fields
from .shared_rows import shared_rows
from .tile_walker import TileWalker

__all__ = ["DEADLINE_BITS", "LoadKind", "LoadWalker", "load_tag", "row_layout"]

#: Iterations are counted modulo this power of two to order requests.
DEADLINE_BITS = 16


class LoadKind(enum.Enum, shape=3):
    """What a word read from memory is part of."""

    DESCRIPTOR = 0
    PROGRAM = 1
    QUERY = 2
    KEY = 3
    VALUE = 4


def load_tag(config: Config) -> data.StructLayout:
    """Where a word read from memory belongs."""
    depth = max(2 * (config.key_beats + config.value_beats), config.query_bank_beats)
    return data.StructLayout(
        {
            "kind": LoadKind,
            "place": unsigned(8),  #: row or column
            "base": unsigned((depth - 1).bit_length()),  #: bank address of the row's first word
            "tail": unsigned((config.beat_elements).bit_length()),  #: elements that exist in the row's last word
            "last": 1,  #: a tile's last row
            "scale": 32,  #: factor of a query, float32
            "row_scale": 1,  #: the row's first word holds its factor instead
        }
    )


def row_layout(config: Config) -> data.StructLayout:
    """A row to read, and the iteration that first uses it."""
    return data.StructLayout(
        {
            "address": unsigned(config.address_bits),
            "beats": unsigned(9),
            "deadline": unsigned(DEADLINE_BITS),
            "tag": load_tag(config),
        }
    )


class LoadWalker(wiring.Component):
    """Walks ``for batch: for head: for group: for tile: for row`` through one tensor.

    K and V are read once per query group; a query once. A tile's first row is asked for only when a buffer for the whole tile
    is free: two for K, two for V, the job's ``query_slots`` for Q. A row a cycle within a tile, and a cycle between tiles.

    Members
    -------
    jobs : In(stream.Signature(job_layout(tensor_fields(tensor))))
    release : In(1)
        The array has read a tile for the last time.
    rows : Out(stream.Signature(row_layout(config)))

    Raises
    ------
    ValueError
        If ``tensor`` is none of ``q``, ``k`` and ``v``.
    """

    def __init__(self, config: Config, tensor: str):
        if tensor not in ("q", "k", "v"):
            raise ValueError(f"tensor must be 'q', 'k' or 'v', not {tensor!r}")
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
        config, query = self.config, self.tensor == "q"
        kind = {"q": LoadKind.QUERY, "k": LoadKind.KEY, "v": LoadKind.VALUE}[self.tensor]
        m.submodules.tiles = tiles = TileWalker(config, self.tensor)
        wiring.connect(m, wiring.flipped(self.jobs), tiles.jobs)
        next_tile = tiles.tiles.payload
        tile = Signal(next_tile.shape())
        # Between tiles a cycle passes in which the next one is taken. So its deadline is there a cycle before its first row is
        # asked for, as the arbiter wants it, and the tile walker does not wait for the arbiter in the same cycle.
        running, first = Signal(), Signal()
        rows = Countdown(m, 8, "rows")
        row = Signal(8)
        # ``void``: the queries of a job that continues another are there.
        accepted, take, void, next_void = Signal(), Signal(), Signal(), Signal()
        if query:
            m.d.comb += [void.eq(running & tile.job.continued), next_void.eq(next_tile.job.continued)]
        m.d.comb += [
            accepted.eq(void | (self.rows.valid & self.rows.ready)),
            tiles.tiles.ready.eq(~running),
            take.eq(tiles.tiles.valid & tiles.tiles.ready),
        ]
        with m.If(accepted):
            m.d.sync += [row.eq(row + 1), first.eq(0)]
            rows.step(0)
            with m.If(rows.last):
                m.d.sync += running.eq(0)
        with m.If(take):
            m.d.sync += [tile.eq(next_tile), running.eq(1), row.eq(0), first.eq(1)]
            rows.start(Mux(next_tile.job.continued, 0, next_tile.rows) if query else next_tile.rows)

        # Address in memory.
        jump = take & next_tile.jump
        if query:
            address = shared_rows(m, tile.job, next_tile, "q", accepted, jump)
        else:
            address = Signal(config.address_bits)
            with m.If(accepted):
                m.d.sync += address.eq(address + tile.job[f"{self.tensor}_row_stride"])
            with m.If(jump):
                m.d.sync += address.eq(next_tile.address)

        # Address in the bank: two buffers each for K and V, a ring of slots for Q.
        element_log2 = (config.beat_elements - 1).bit_length()
        head_dim = next_tile.job.f if self.tensor == "v" else next_tile.job.e
        last_elements = head_dim[:element_log2]
        beats, tail = Signal(9), Signal.like(self.rows.payload.tag.tail)
        with m.If(take):
            m.d.sync += [
                beats.eq((head_dim + config.beat_elements - 1) >> element_log2),
                tail.eq(Mux(last_elements == 0, config.beat_elements, last_elements)),
            ]
        first_base = {"q": 0, "k": 0, "v": 2 * config.key_beats}[self.tensor]
        base = Signal(self.rows.payload.tag.base.shape(), init=first_base)
        tile_end = accepted & rows.last
        if query:
            slot = Countdown(m, 16, "slots")
            most = Signal(16)
            with m.If(tile_end & ~void):
                m.d.sync += base.eq(Mux(slot.last, 0, base + beats))
                slot.step(most)
            with m.If(take & next_tile.job.restart):
                m.d.sync += [base.eq(0), most.eq(next_tile.job.query_slots - 1)]
                slot.start(next_tile.job.query_slots - 1)
        else:
            second_base = first_base + (config.value_beats if self.tensor == "v" else config.key_beats)
            with m.If(tile_end):
                m.d.sync += base.eq(Mux(base == first_base, second_base, first_base))

        # Buffers that are free, and whether there will be any.
        free = Signal(range((config.query_bank_beats if query else 2) + 1), init=0 if query else 2)
        starts, room = Signal(), Signal()
        m.d.comb += [
            starts.eq(self.rows.valid & self.rows.ready & first),
            room.eq(self.release | Mux(starts, free > 1, free != 0)),
        ]
        m.d.sync += free.eq(free - starts + self.release)
        if query:
            with m.If(take & next_tile.job.restart):
                m.d.sync += free.eq(next_tile.job.query_slots)
                m.d.comb += room.eq(1)

        # Whether a row is asked for is a register: the arbiter decides over it.
        with m.If(take):
            m.d.sync += self.rows.valid.eq(~next_void & room)
        with m.Elif(accepted):
            m.d.sync += self.rows.valid.eq(~rows.last)
        with m.Elif(running & first):
            m.d.sync += self.rows.valid.eq(room)

        # First use, in iterations since the start.
        deadline = Signal(DEADLINE_BITS, init=1 if self.tensor == "v" else 0)
        if query:
            group_start, next_start = Signal(DEADLINE_BITS), Signal(DEADLINE_BITS)
            iterations = Signal(DEADLINE_BITS)
            fewer = next_tile.job.group_iterations - next_tile.job.key_tiles
            with m.If(take):
                m.d.sync += iterations.eq(Mux(next_tile.large, next_tile.job.group_iterations, fewer))
            m.d.comb += next_start.eq(group_start + iterations)
            with m.If(tile_end):
                m.d.sync += deadline.eq(deadline + 1)
                with m.If(tile.group_end):
                    m.d.sync += [group_start.eq(next_start), deadline.eq(next_start)]
        else:
            with m.If(tile_end):
                m.d.sync += deadline.eq(deadline + tile.group_tiles)

        m.d.comb += [
            self.rows.payload.address.eq(address),
            self.rows.payload.deadline.eq(deadline),
            self.rows.payload.tag.kind.eq(kind),
            self.rows.payload.tag.place.eq(row),
            self.rows.payload.tag.base.eq(base),
            self.rows.payload.tag.tail.eq(tail),
            self.rows.payload.tag.last.eq(rows.last),
        ]
        if not query:
            m.d.comb += self.rows.payload.beats.eq(beats)
        if query:
            m.d.comb += [
                self.rows.payload.tag.scale.eq(tile.job.scale),
                self.rows.payload.tag.row_scale.eq(tile.job.row_scale),
                self.rows.payload.beats.eq(beats + tile.job.row_scale),
            ]
        return m

"""Load walker: the rows of Q, K or V that the array will need, in the order in which it needs them."""

from typing import Any, NamedTuple

from amaranth.hdl import Const, Module, Mux, Signal, ValueLike, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config

from ..words import north_word, west_word
from .countdown import Countdown
from .job import descriptor_layout, job_layout, tensor_fields
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
    MASK = 5
    BIAS = 6


def load_tag(config: Config) -> data.StructLayout:
    """Where a word read from memory belongs."""
    descriptor = descriptor_layout()
    key_value_bank, query_bank = (word["beat"].shape.width for word in (west_word(config), north_word(config)))
    return data.StructLayout(
        {
            "kind": LoadKind,
            "place": unsigned(8),  #: row or column
            "base": unsigned(max(key_value_bank, query_bank)),  #: bank address of the row's first word
            "tail": range(config.beat_elements + 1),  #: elements that exist in the row's last word
            "last": 1,  #: a tile's last row
            "scale": descriptor["scale"].shape,  #: factor of a query or a bias, float32
            "row_scale": descriptor["row_scale"].shape,  #: the row's first word holds its factor instead
            "wide": descriptor["bias_wide"].shape,  #: of a bias: its elements are operands of 32 bits
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


class Walk(NamedTuple):
    """Walk through the rows of a tile.

    Members
    -------
    tile, next_tile
        Tile under way, and the one that ``take`` takes.
    running, first, row, last
        There is a tile; its first row; number of the row; its last row.
    accepted, take, tile_end
        On to the next row; a tile is taken; its last row is left.
    void, next_void
        The queries of the job continue another's and are there: no row is read.
    """

    tile: data.View
    next_tile: data.View
    running: Signal
    first: Signal
    row: Signal
    last: Signal
    accepted: Signal
    take: Signal
    void: Signal
    next_void: Signal
    tile_end: ValueLike


class LoadWalker(wiring.Component):
    """Walk through the rows of one tensor, in order of use.

    The loops are ``for batch: for head: for group: for tile: for row``. K and V are read once per query group; a query once. A
    tile's first row is asked for only when a buffer for the whole tile is free: two for K, two for V, the job's ``query_slots``
    for Q; or three for K if the values are in the keys. There is a row a cycle within a tile, and a cycle between tiles.

    Parameters
    ----------
    config : Config
        Machine.
    tensor : str
        ``q``, ``k`` or ``v``.

    Members
    -------
    jobs : In(stream.Signature(job_layout(tensor_fields(tensor))))
        Jobs.
    release : In(1)
        The array has read a tile for the last time: high for a cycle.
    rows : Out(stream.Signature(row_layout(config)))
        Rows to read; the deadline is there a cycle before the row is.

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
        m.submodules.tiles = tiles = TileWalker(self.config, self.tensor)
        wiring.connect(m, wiring.flipped(self.jobs), tiles.jobs)
        walk = self._walk_rows(m, tiles)
        address = self._memory_address(m, walk)
        beats, tail, base = self._bank_address(m, walk)
        room = self._count_buffers(m, walk)
        self._ask(m, walk, room)
        deadline = self._deadline(m, walk)
        self._describe_row(m, walk, address, beats, tail, base, deadline)
        return m

    def _walk_rows(self, m: Module, tiles: TileWalker) -> Walk:
        """Take a tile and count its rows.

        Between tiles a cycle passes in which the next one is taken. So its deadline is there a cycle before its first row is
        asked for, as the arbiter wants it, and the tile walker does not wait for the arbiter in the same cycle.
        """
        next_tile = tiles.tiles.payload
        tile = Signal(next_tile.shape())
        running, first = Signal(), Signal()
        rows = Countdown(m, 8, "rows")
        row = Signal(8)
        accepted, take, void, next_void = Signal(), Signal(), Signal(), Signal()
        if self.tensor == "q":
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
            rows.start(Mux(next_void, 0, next_tile.rows))
        return Walk(tile, next_tile, running, first, row, rows.last, accepted, take, void, next_void, accepted & rows.last)

    def _memory_address(self, m: Module, walk: Walk) -> Signal:
        """Address of the row in memory."""
        tile, next_tile = walk.tile, walk.next_tile
        jump = walk.take & next_tile.jump
        if self.tensor == "q":
            return shared_rows(m, tile.job, next_tile, "q", walk.accepted, jump)
        address = Signal(self.config.address_bits)
        with m.If(walk.accepted):
            m.d.sync += address.eq(address + tile.job[f"{self.tensor}_row_stride"])
        with m.If(jump):
            m.d.sync += address.eq(next_tile.address)
        return address

    def _bank_address(self, m: Module, walk: Walk) -> tuple[Signal, Signal, Signal]:
        """Bus words of a row, elements of its last one, its address in the bank; Q has a ring of slots, K and V of buffers."""
        config, next_tile = self.config, walk.next_tile
        element_log2 = exact_log2(config.beat_elements)
        head_dim = next_tile.job.f if self.tensor == "v" else next_tile.job.e
        last_elements = head_dim[:element_log2]
        beats, tail = Signal(9), Signal.like(self.rows.payload.tag.tail)
        with m.If(walk.take):
            m.d.sync += [
                beats.eq((head_dim + config.beat_elements - 1) >> element_log2),
                tail.eq(Mux(last_elements == 0, config.beat_elements, last_elements)),
            ]
        first_base = {"q": 0, "k": 0, "v": 2 * config.key_beats}[self.tensor]
        base = Signal(self.rows.payload.tag.base.shape(), init=first_base)
        if self.tensor == "q":
            slot = Countdown(m, 16, "slots")
            most = Signal(16)
            with m.If(walk.tile_end & ~walk.void):
                m.d.sync += base.eq(Mux(slot.last, 0, base + beats))
                slot.step(most)
            with m.If(walk.take & next_tile.job.restart):
                m.d.sync += [base.eq(0), most.eq(next_tile.job.query_slots - 1)]
                slot.start(next_tile.job.query_slots - 1)
        else:
            second_base = first_base + (config.value_beats if self.tensor == "v" else config.key_beats)
            behind_second: ValueLike = first_base
            if self.tensor == "k" and config.values_in_keys:
                # The values' buffers are free for it.
                third_base = 2 * config.key_beats
                behind_second = Mux(walk.tile.job.values_in_keys & (base == second_base), third_base, first_base)
            with m.If(walk.tile_end):
                m.d.sync += base.eq(Mux(base == first_base, second_base, behind_second))
            with m.If(walk.take & next_tile.job.restart):
                m.d.sync += base.eq(first_base)
        return beats, tail, base

    def _count_buffers(self, m: Module, walk: Walk) -> Signal:
        """Count the buffers that are free; returns whether there will be any."""
        job = walk.next_tile.job
        most, buffers = 2, Const(2)
        if self.tensor == "q":
            most, buffers = self.config.query_bank_beats, job.query_slots
        elif self.tensor == "k" and self.config.values_in_keys:
            most, buffers = 3, Mux(job.values_in_keys, 3, 2)
        free = Signal(range(most + 1), init=0 if self.tensor == "q" else 2)
        starts, room = Signal(), Signal()
        m.d.comb += [
            starts.eq(self.rows.valid & self.rows.ready & walk.first),
            room.eq(self.release | Mux(starts, free > 1, free != 0)),
        ]
        m.d.sync += free.eq(free - starts + self.release)
        with m.If(walk.take & job.restart):
            m.d.sync += free.eq(buffers)
            m.d.comb += room.eq(1)
        return room

    def _ask(self, m: Module, walk: Walk, room: Signal) -> None:
        """Ask for a row. Whether one is asked for is a register: the arbiter decides over it."""
        with m.If(walk.take):
            m.d.sync += self.rows.valid.eq(~walk.next_void & room)
        with m.Elif(walk.accepted):
            m.d.sync += self.rows.valid.eq(~walk.last)
        with m.Elif(walk.running & walk.first):
            m.d.sync += self.rows.valid.eq(room)

    def _deadline(self, m: Module, walk: Walk) -> Signal:
        """Count the iterations from the latest restart to the one that first uses the tile."""
        tile, next_tile = walk.tile, walk.next_tile
        first = 1 if self.tensor == "v" else 0
        deadline = Signal(DEADLINE_BITS, init=first)
        restart = self.jobs.valid & self.jobs.ready & self.jobs.payload.restart
        if self.tensor == "q":
            group_start, next_start = Signal(DEADLINE_BITS), Signal(DEADLINE_BITS)
            iterations = Signal(DEADLINE_BITS)
            fewer = next_tile.job.group_iterations - next_tile.job.key_tiles
            with m.If(walk.take):
                m.d.sync += iterations.eq(Mux(next_tile.large, next_tile.job.group_iterations, fewer))
            m.d.comb += next_start.eq(group_start + iterations)
            with m.If(walk.tile_end):
                m.d.sync += deadline.eq(deadline + 1)
                with m.If(tile.group_end):
                    m.d.sync += [group_start.eq(next_start), deadline.eq(next_start)]
            with m.If(restart):
                m.d.sync += group_start.eq(0)
        else:
            with m.If(walk.tile_end):
                m.d.sync += deadline.eq(deadline + tile.group_tiles)
        with m.If(restart):
            m.d.sync += deadline.eq(first)
        return deadline

    def _describe_row(
        self, m: Module, walk: Walk, address: Signal, beats: Signal, tail: Signal, base: Signal, deadline: Signal
    ) -> None:
        """Describe the row to the arbiter, and to the loader, which gets the tag back with every word."""
        row, tag, job = self.rows.payload, self.rows.payload.tag, walk.tile.job
        m.d.comb += [
            row.address.eq(address),
            row.deadline.eq(deadline),
            tag.kind.eq({"q": LoadKind.QUERY, "k": LoadKind.KEY, "v": LoadKind.VALUE}[self.tensor]),
            tag.place.eq(walk.row),
            tag.base.eq(base),
            tag.tail.eq(tail),
            tag.last.eq(walk.last),
        ]
        if self.tensor == "q":
            m.d.comb += [tag.scale.eq(job.scale), tag.row_scale.eq(job.row_scale), row.beats.eq(beats + job.row_scale)]
        else:
            m.d.comb += row.beats.eq(beats)

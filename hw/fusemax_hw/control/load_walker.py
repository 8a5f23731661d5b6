"""Load walker: the rows of Q, K or V that the array will need, in the order in which it needs them."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .job import group_tiles, job_layout, load_fields, nest

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
            "first": 1,  #: a tile's first row
            "last": 1,  #: a tile's last row
            "scale": 32,  #: factor of a query, float32
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

    K and V are read once per query group; a query once. A tile's first row is asked for only when a buffer for the whole
    tile is free: two for K, two for V, the job's ``query_slots`` for Q.

    Members
    -------
    jobs : In(stream.Signature(job_layout(load_fields(tensor))))
    release : In(1)
        The array has read a tile for the last time.
    rows : Out(stream.Signature(row_layout(config)))
    """

    def __init__(self, config: Config, tensor: str):
        if tensor not in ("q", "k", "v"):
            raise ValueError(f"tensor must be 'q', 'k' or 'v', not {tensor!r}")
        self.config = config
        self.tensor = tensor
        self._job = job_layout(load_fields(tensor))
        super().__init__(
            {
                "jobs": In(stream.Signature(self._job)),
                "release": In(1),
                "rows": Out(stream.Signature(row_layout(config))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config, query = self.config, self.tensor == "q"
        kind = {"q": LoadKind.QUERY, "k": LoadKind.KEY, "v": LoadKind.VALUE}[self.tensor]
        job = Signal(self._job)
        running = Signal()

        # Bank addresses: two buffers each for K and V, a ring of slots for Q.
        beats = Signal(9)
        tail = Signal.like(self.rows.payload.tag.tail)
        first_base = {"q": 0, "k": 0, "v": 2 * config.key_beats}[self.tensor]
        base = Signal(self.rows.payload.tag.base.shape(), init=first_base)
        slot = Signal(16)
        used = Signal(16)
        second_base = first_base + (config.value_beats if self.tensor == "v" else config.key_beats)
        slots = job.query_slots if query else 2

        # Loops.
        row, tile, group, head, batch = Signal(8), Signal(32), Signal(32), Signal(16), Signal(16)
        tiles = Signal(32)
        group_last = group == job.groups - 1
        tile_last = tile == tiles - 1
        if query:
            rows = Mux(tile_last & group_last, job.last_queries, config.columns)
            m.d.comb += tiles.eq(group_tiles(job, group))
        else:
            rows = Mux(tile_last, job.last_keys, config.rows)
            m.d.comb += tiles.eq(job.key_tiles)
        row_last = row == rows - 1
        accepted = Signal()
        m.d.comb += accepted.eq(self.rows.valid & self.rows.ready)
        tile_end, group_end, head_end, batch_end, job_end = nest(
            m,
            accepted,
            [
                (row, row_last),
                (tile, tile_last),
                (group, group_last),
                (head, head == job.heads - 1),
                (batch, batch == job.batch - 1),
            ],
        )

        # Addresses: a row on; at a head's end to the next head; K and V go back to the head's start for every group.
        address, head_base, batch_base = (Signal(config.address_bits) for _ in range(3))
        fields = {name: job[f"{self.tensor}_{name}"] for name in ("address", "row_stride", "head_stride", "batch_stride")}
        next_head, next_batch = Signal.like(address), Signal.like(address)
        m.d.comb += [next_head.eq(head_base + fields["head_stride"]), next_batch.eq(batch_base + fields["batch_stride"])]
        with m.If(accepted):
            with m.If(batch_end):
                m.d.sync += [address.eq(next_batch), head_base.eq(next_batch), batch_base.eq(next_batch)]
            with m.Elif(head_end):
                m.d.sync += [address.eq(next_head), head_base.eq(next_head)]
            if not query:
                with m.Elif(group_end):
                    m.d.sync += address.eq(head_base)
            with m.Else():
                m.d.sync += address.eq(address + fields["row_stride"])

        # First use, in iterations since the start.
        deadline = Signal(DEADLINE_BITS, init=1 if self.tensor == "v" else 0)
        large = group < job.large_groups
        with m.If(accepted & tile_end):
            if query:
                group_start = Signal(DEADLINE_BITS)
                next_start = group_start + Mux(large, job.group_iterations, job.group_iterations - job.key_tiles)
                m.d.sync += deadline.eq(deadline + 1)
                with m.If(group_end):
                    m.d.sync += [group_start.eq(next_start), deadline.eq(next_start)]
            else:
                m.d.sync += deadline.eq(deadline + group_tiles(job, group))

        # Buffers.
        starts = Signal()
        m.d.comb += starts.eq(accepted & (row == 0))
        m.d.sync += used.eq(used + starts - self.release)
        with m.If(accepted & tile_end):
            if query:
                m.d.sync += [slot.eq(slot + 1), base.eq(base + beats)]
                with m.If(slot == job.query_slots - 1):
                    m.d.sync += [slot.eq(0), base.eq(0)]
            else:
                m.d.sync += base.eq(Mux(base == first_base, second_base, first_base))

        m.d.comb += [
            self.rows.valid.eq(running & ((row != 0) | (used < slots))),
            self.rows.payload.address.eq(address),
            self.rows.payload.beats.eq(beats),
            self.rows.payload.deadline.eq(deadline),
            self.rows.payload.tag.kind.eq(kind),
            self.rows.payload.tag.place.eq(row),
            self.rows.payload.tag.base.eq(base),
            self.rows.payload.tag.tail.eq(tail),
            self.rows.payload.tag.first.eq(row == 0),
            self.rows.payload.tag.last.eq(row_last),
        ]
        if query:
            m.d.comb += self.rows.payload.tag.scale.eq(job.scale)

        # Next job.
        element_log2 = (config.beat_elements - 1).bit_length()
        new = self.jobs.payload
        head_dim = new.f if self.tensor == "v" else new.e
        last_elements = head_dim[:element_log2]
        m.d.comb += self.jobs.ready.eq(~running)
        with m.If(accepted & job_end):
            m.d.sync += running.eq(0)
        with m.Elif(~running & self.jobs.valid):
            m.d.sync += [
                running.eq(1),
                job.eq(new),
                beats.eq((head_dim + config.beat_elements - 1) >> element_log2),
                tail.eq(Mux(last_elements == 0, config.beat_elements, last_elements)),
                address.eq(new[f"{self.tensor}_address"]),
                head_base.eq(new[f"{self.tensor}_address"]),
                batch_base.eq(new[f"{self.tensor}_address"]),
            ]
            if query:
                with m.If(new.restart):
                    m.d.sync += [slot.eq(0), base.eq(0)]
        return m

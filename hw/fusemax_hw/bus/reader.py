"""AXI4 reads: runs of bus words in, tagged words out, in order."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config

from .axi import burst_layout, read_layout
from .bursts import BurstSplitter, beat_bits, run_layout
from .window import WindowStage

__all__ = ["Reader", "beat_layout"]


def beat_layout(config: Config, tag: ShapeLike) -> data.StructLayout:
    """A bus word that was read: which word of which run it is."""
    return data.StructLayout({"data": config.bus_bits, "index": unsigned(beat_bits(config)), "last": 1, "error": 1, "tag": tag})


class Reader(wiring.Component):
    """Read runs of bus words, several bursts at a time.

    Up to ``outstanding_reads`` bursts are under way.

    Members
    -------
    runs : In(stream.Signature(run_layout(config, tag)))
        What to read. Whoever asks has room for the answer.
    ar : Out(stream.Signature(burst_layout(config)))
        Read address channel.
    r : In(stream.Signature(read_layout(config)))
        Read data channel.
    beat : Out(beat_layout(config, tag))
        A word that was read; counts while ``beat_valid`` is high, and is not held.
    beat_valid : Out(1)
        There is one in this cycle.
    error_address : Out(address_bits)
        Address of that word.
    first, last : In(address_bits)
        First and last byte that may be read.
    refused : Out(1)
        A burst would have left that window: it was not begun, and its words do not come. High for a cycle.
    refused_tag : Out(tag)
        Its tag; counts while ``refused`` is high.
    refused_address : Out(address_bits)
        Its address, likewise.
    waiting : Out(1)
        There is a burst that is not complete.
    waiting_address : Out(address_bits)
        Address of the oldest one; counts while ``waiting`` is high.
    drain : In(1)
        Begin no further burst.
    idle : Out(1)
        No burst is offered or under way.
    """

    def __init__(self, config: Config, tag: ShapeLike):
        self.config = config
        self._tag = tag
        super().__init__(
            {
                "runs": In(stream.Signature(run_layout(config, tag))),
                "ar": Out(stream.Signature(burst_layout(config))),
                "r": In(stream.Signature(read_layout(config))),
                "beat": Out(beat_layout(config, tag)),
                "beat_valid": Out(1),
                "error_address": Out(config.address_bits),
                "first": In(config.address_bits),
                "last": In(config.address_bits, init=(1 << config.address_bits) - 1),  # pyright: ignore[reportCallIssue]
                "refused": Out(1),
                "refused_tag": Out(tag),
                "refused_address": Out(config.address_bits),
                "waiting": Out(1),
                "waiting_address": Out(config.address_bits),
                "drain": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(self.config, self._tag)
        m.submodules.window = window = WindowStage(self.config, self._tag)
        wiring.connect(m, wiring.flipped(self.runs), splitter.runs)
        wiring.connect(m, splitter.bursts, window.bursts)
        m.d.comb += [window.first.eq(self.first), window.last.eq(self.last)]
        bursts = window.checked

        pending_layout = data.StructLayout(
            {"start": bursts.payload.start.shape(), "last": 1, "address": unsigned(self.config.address_bits), "tag": self._tag}
        )
        m.submodules.pending = pending = SyncFIFOBuffered(width=pending_layout.size, depth=self.config.outstanding_reads)
        entry = Signal(pending_layout)
        # A burst that has been offered must be begun (AXI4, section A3.2.1).
        offered, may_begin = Signal(), Signal()
        current = data.View(pending_layout, pending.r_data)
        m.d.comb += [
            entry.start.eq(bursts.payload.start),
            entry.last.eq(bursts.payload.last),
            entry.address.eq(bursts.payload.address),
            entry.tag.eq(bursts.payload.tag),
            pending.w_data.eq(entry),
            may_begin.eq(pending.w_rdy & (offered | ~self.drain)),
            self.ar.valid.eq(bursts.valid & window.allowed & may_begin),
            self.ar.payload.address.eq(bursts.payload.address),
            self.ar.payload.length.eq(bursts.payload.length),
            bursts.ready.eq(~window.allowed | (self.ar.ready & may_begin)),
            pending.w_en.eq(self.ar.valid & self.ar.ready),
            self.waiting.eq(pending.r_rdy | offered),
            self.waiting_address.eq(Mux(pending.r_rdy, current.address, bursts.payload.address)),
        ]
        m.d.sync += [
            offered.eq(self.ar.valid & ~self.ar.ready),
            self.refused.eq(bursts.valid & ~window.allowed),
            self.refused_tag.eq(bursts.payload.tag),
            self.refused_address.eq(bursts.payload.address),
        ]

        position = Signal(9)
        taken = Signal()
        m.d.comb += [
            self.r.ready.eq(pending.r_rdy),
            taken.eq(self.r.valid & self.r.ready),
            pending.r_en.eq(taken & self.r.payload.last),
            self.idle.eq((pending.level == 0) & ~self.ar.valid),
        ]
        with m.If(taken):
            m.d.sync += position.eq(position + 1)
            with m.If(self.r.payload.last):
                m.d.sync += position.eq(0)
        m.d.sync += [
            self.beat_valid.eq(taken),
            self.beat.data.eq(self.r.payload.data),
            self.beat.index.eq(current.start + position),
            self.beat.last.eq(self.r.payload.last & current.last),
            self.beat.error.eq(self.r.payload.response[1]),
            self.beat.tag.eq(current.tag),
            self.error_address.eq(current.address + (position << exact_log2(self.config.bus_bytes))),
        ]
        return m

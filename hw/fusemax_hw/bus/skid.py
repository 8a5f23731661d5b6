"""Skid buffer: a register stage for a stream whose two sides do not wait for each other in the same cycle."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SkidBuffer"]


class SkidBuffer(wiring.Component):
    """Register a stream in both directions.

    A payload takes a cycle from input to output, and there is one per cycle; a spare register takes the one that comes while
    the output waits. Whether there is room is a register: ``sink.ready`` does not depend on ``source.ready``.

    Members
    -------
    sink : In(stream.Signature(shape))
        Input.
    source : Out(stream.Signature(shape))
        Output, in the same order.
    """

    def __init__(self, shape: ShapeLike):
        super().__init__({"sink": In(stream.Signature(shape)), "source": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        spare = Signal(self.sink.payload.shape(), reset_less=True)
        spare_valid = Signal()
        m.d.comb += self.sink.ready.eq(~spare_valid)
        with m.If(~self.source.valid | self.source.ready):
            m.d.sync += [
                self.source.valid.eq(spare_valid | self.sink.valid),
                self.source.payload.eq(Mux(spare_valid, spare, self.sink.payload)),
                spare_valid.eq(0),
            ]
        with m.Elif(self.sink.valid & ~spare_valid):
            m.d.sync += [spare_valid.eq(1), spare.eq(self.sink.payload)]
        return m

"""Buffers and delays: what goes in comes out, in order, and once."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data
from amaranth.lib.fifo import SyncFIFOBuffered

from fusemax_hw.array.ring_delay import RingDelay
from fusemax_hw.bus.skid import SkidBuffer
from fusemax_hw.lane.delay import DelayLine

from .solver import Harness, last

__all__ = ["Delay", "Fifo", "Marked", "Ring", "Skid"]


class Marked:
    """One item of a queue, any one: how many are in front of it, and whether it has left.

    Members
    -------
    inside : Signal(1)
        It has gone in and has not come out.
    next : Value
        It is the next one to come out.
    level : Signal
        Items in the queue.
    """

    def __init__(self, harness: Harness, m: Module, enters: Any, leaves: Any, most: int, name: str = "marked"):
        choose = harness.free(1, f"{name}_choose")
        self.level = Signal(range(most + 2), name=f"{name}_level")
        ahead, self.inside, gone = Signal.like(self.level), Signal(name=f"{name}_inside"), Signal(name=f"{name}_gone")
        self.enters = enters & choose & ~self.inside & ~gone
        self.next = self.inside & (ahead == 0)
        m.d.sync += self.level.eq(self.level + enters - leaves)
        with m.If(self.enters):
            m.d.sync += [self.inside.eq(1), ahead.eq(self.level - leaves)]
        with m.Elif(self.inside & leaves):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += [self.inside.eq(0), gone.eq(1)]

    def keep(self, m: Module, value: Any) -> Signal:
        """What a value was when the item went in."""
        kept = Signal.like(Value.cast(value), name="kept")
        with m.If(self.enters):
            m.d.sync += kept.eq(value)
        return kept


class Skid(Harness):
    """The skid buffer of every bus and of the arbiter."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.skid = skid = SkidBuffer(4)
        self.drive(skid.sink.valid, "valid")
        self.drive(skid.sink.payload, "payload")
        self.drive(skid.source.ready, "ready")
        marked = Marked(self, m, skid.sink.valid & skid.sink.ready, skid.source.valid & skid.source.ready, 2)
        payload = marked.keep(m, skid.sink.payload)
        return {
            "offers stay": self.kept(skid.source),
            "order, nothing lost": ~marked.next | (skid.source.valid & (skid.source.payload == payload)),
            "nothing invented": ~skid.source.valid | (marked.level != 0),
            "holds two": marked.level <= 2,
        }


class Fifo(Harness):
    """Amaranth's queue, as reader, writer and store use it: with a register behind its memory."""

    depth = 4

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=2, depth=self.depth)
        for name in ("w_en", "w_data", "r_en"):
            self.drive(getattr(fifo, name), name)
        marked = Marked(self, m, fifo.w_en & fifo.w_rdy, fifo.r_en & fifo.r_rdy, self.depth)
        written = marked.keep(m, fifo.w_data)
        waited = last(m, marked.level != 0) & last(m, marked.level != 0, 2) & (marked.level != 0)
        left = fifo.r_en & fifo.r_rdy
        return {
            "order, nothing lost": ~(marked.next & fifo.r_rdy) | (fifo.r_data == written),
            "nothing invented": ~fifo.r_rdy | (marked.level != 0),
            "comes out": ~waited | last(m, left) | last(m, left, 2) | fifo.r_rdy,
            "level": fifo.level == marked.level,
        }


class Ring(Harness):
    """Words that wait in a ring of memory."""

    cycles = 5

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.ring = ring = RingDelay(data.StructLayout({"valid": 1, "word": 2}), self.cycles, frozenset({"valid"}))
        self.drive(ring.word, "word")
        word = Value.cast(ring.word)
        begun = last(m, 1, self.cycles)
        return {
            "delay": ~begun | (Value.cast(ring.word_out) == last(m, word, self.cycles)),
            "nothing invented": begun | ~ring.word_out.valid,
        }


class Delay(Harness):
    """Numerators that wait for their reciprocal."""

    cycles = 5

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.line = line = DelayLine(3, self.cycles)
        self.drive(line.i, "word")
        return {"delay": ~last(m, 1, self.cycles) | (line.o == last(m, line.i, self.cycles))}

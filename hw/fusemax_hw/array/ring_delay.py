"""Words delayed by a fixed number of cycles, in a memory."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["RingDelay"]


class RingDelay(wiring.Component):
    """``cycles`` cycles from ``word`` to ``word_out``.

    The memory is a ring: a word a cycle is written, the oldest is read, never both the same. After a reset the fields
    named in ``reset`` are zero until the first word comes out.

    Parameters
    ----------
    layout : data.StructLayout
        Word.
    cycles : int
        Delay, at least 2.
    reset : frozenset of str
        Fields that make the others count.

    Raises
    ------
    ValueError
        If ``cycles`` is less than 2.
    """

    def __init__(self, layout: data.StructLayout, cycles: int, reset: frozenset[str]):
        if cycles < 2:
            raise ValueError(f"cycles must be at least 2, not {cycles!r}")
        self._layout, self._cycles, self._reset = layout, cycles, reset
        super().__init__({"word": In(layout), "word_out": Out(layout)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.ring = ring = Memory(shape=unsigned(self._layout.size), depth=self._cycles, init=[])
        write, read = ring.write_port(), ring.read_port()
        newest = Signal(range(self._cycles))
        oldest = Signal(range(self._cycles), init=1)
        # A word that comes out was written since the reset.
        written = Signal()
        m.d.sync += [newest.eq(oldest), oldest.eq(Mux(oldest == self._cycles - 1, 0, oldest + 1))]
        with m.If(newest == self._cycles - 1):
            m.d.sync += written.eq(1)
        m.d.comb += [
            write.en.eq(1),
            write.addr.eq(newest),
            write.data.eq(self.word),
            read.en.eq(1),
            read.addr.eq(oldest),
            Value.cast(self.word_out).eq(read.data),
        ]
        for name in sorted(self._reset):
            with m.If(~written):
                m.d.comb += self.word_out[name].eq(0)
        return m

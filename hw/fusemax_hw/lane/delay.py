"""Delay line in a memory."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DelayLine"]


class DelayLine(wiring.Component):
    """What is at ``i`` now is at ``o`` after ``cycles`` cycles; for long or wide delays, where registers would cost more.

    Arbitrary for the first ``cycles`` cycles.

    Parameters
    ----------
    shape : ShapeCastable
    cycles : int
        2 or more.

    Members
    -------
    i : In(shape)
    o : Out(shape)
        From the memory's output register.

    Raises
    ------
    ValueError
        If ``cycles`` is out of range.
    """

    def __init__(self, shape: Any, cycles: int):
        if cycles < 2:
            raise ValueError(f"cycles must be at least 2, not {cycles!r}")
        self._shape = shape
        self._cycles = cycles
        super().__init__({"i": In(shape), "o": Out(shape)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # The read is issued cycles - 1 after the write; with so many words the two never meet at one address.
        depth = 1 << (self._cycles - 1).bit_length()
        m.submodules.words = words = memory.Memory(shape=self._shape, depth=depth, init=[])
        write, read = words.write_port(), words.read_port()
        write_address = Signal(range(depth))
        read_address = Signal(range(depth), init=depth - (self._cycles - 1))
        m.d.sync += [
            write_address.eq(write_address + 1),
            read_address.eq(read_address + 1),
        ]
        m.d.comb += [
            write.addr.eq(write_address),
            write.data.eq(self.i),
            write.en.eq(1),
            read.addr.eq(read_address),
            self.o.eq(read.data),
        ]
        return m

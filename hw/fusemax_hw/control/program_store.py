"""Program store: microwords in a loop, one a cycle."""

from typing import Any

from amaranth.hdl import Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import MICROWORD, Config, ceil_div, clog2

__all__ = ["ProgramStore", "microword_layout"]


def microword_layout() -> data.StructLayout:
    """The microword's fields; the operation is a number of :class:`fusemax.spec.Op`."""
    return data.StructLayout({field.name: Shape(field.bits, field.signed) for field in MICROWORD.fields})


class ProgramStore(wiring.Component):
    """Hold one program and give its words in a loop.

    The memory is as wide as the bus, so a program is written as it comes; two registers behind it keep the loop at one word
    a cycle.

    Members
    -------
    write : In(1)
        A bus word of microwords is there.
    address : In(clog2(depth))
        Its number; counts while ``write`` is high.
    data : In(bus_bits)
        The word, likewise.
    ii : In(16)
        Words of the loop; must not change from ``start`` to ``load``.
    load : In(1)
        A program is about to be written: nothing is given from the next cycle on.
    start : In(1)
        The program is complete: it is given from its first word on.
    words : Out(stream.Signature({"word": microword_layout(), "last": 1}))
        Microwords, and whether each is the loop's last.
    """

    def __init__(self, config: Config):
        self.config = config
        self._per_word = config.bus_bits // MICROWORD.bits
        self._depth = ceil_div(config.program_words, self._per_word)
        super().__init__(
            {
                "write": In(1),
                "address": In(unsigned(clog2(self._depth))),
                "data": In(config.bus_bits),
                "ii": In(16),
                "load": In(1),
                "start": In(1),
                "words": Out(stream.Signature(data.StructLayout({"word": microword_layout(), "last": 1}))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        select_bits = exact_log2(self._per_word)
        m.submodules.memory = memory = Memory(
            shape=data.ArrayLayout(unsigned(MICROWORD.bits), self._per_word), depth=self._depth, init=[]
        )
        write, read = memory.write_port(), memory.read_port()
        m.d.comb += [write.en.eq(self.write), write.addr.eq(self.address), write.data.eq(self.data)]

        # Fetch stage: address; read stage: memory's output; word stage: what is given.
        running = Signal()
        slot = Signal(range(self.config.program_words))
        last = slot == self.ii - 1
        read_valid, read_last, read_select = Signal(), Signal(), Signal(select_bits)
        word_ready, read_ready = Signal(), Signal()
        m.d.comb += [
            word_ready.eq(~self.words.valid | self.words.ready),
            read_ready.eq(~read_valid | word_ready),
            read.addr.eq(slot >> select_bits),
            read.en.eq(read_ready),
        ]
        with m.If(read_ready):
            m.d.sync += [read_valid.eq(running), read_last.eq(last), read_select.eq(slot)]
            with m.If(running):
                m.d.sync += slot.eq(Mux(last, 0, slot + 1))
        with m.If(word_ready):
            m.d.sync += [
                self.words.valid.eq(read_valid),
                self.words.payload.word.eq(read.data[read_select] if select_bits else read.data[0]),
                self.words.payload.last.eq(read_last),
            ]
        with m.If(self.load):
            m.d.sync += [running.eq(0), slot.eq(0), read_valid.eq(0), self.words.valid.eq(0)]
        with m.Elif(self.start):
            m.d.sync += running.eq(1)
        return m

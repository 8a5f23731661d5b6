"""West feeder: bank of one row's keys and values, read as the words pass."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config, Timing

from ..arith.query_scale import BF16
from ..pe.hand_on import hand_on
from ..pe.pe import RESET_FIELDS
from ..words import OpCode, load_word, west_bus, west_word
from .load_chain import load_chain

__all__ = ["WestFeeder"]

#: 1 as a bfloat16.
ONE = 0x3F80


class WestFeeder(wiring.Component):
    """Feeder of one row.

    A word that is on ``word`` in cycle t is on ``word_out`` in t + 1 with the next row's number, and its operand on
    ``bus`` in t + :attr:`latency`. A loaded bus word whose ``skip`` is 0 goes to the bank, where a word of the next
    cycle finds it; others are on ``load_out`` a cycle later, ``skip`` less one. No word in use is read in the cycle in which
    it is written.

    Parameters
    ----------
    config : Config
        Machine.

    Members
    -------
    word, word_out : west_word
        Words for this row and for the next.
    load, load_out : load_word of ``bus_bits``
        Loaded bus words: two key buffers of ``key_beats`` words, then two value buffers of ``value_beats``.
    bus : Out(west_bus)
        To the row's first PE. Exponent is 255 - E; with ``mask`` the row's number.
        Zeros, subnormals and rows behind the tile's keys have sig 0 and E 0. Or the word's constant, for every row the same;
        or 1 in the row that a bias is for, and 0 in the others.
    """

    module_name = "fusemax_west_feeder"

    def __init__(self, config: Config):
        self.config = config
        #: Bus words of the bank.
        self.depth = 2 * (config.key_beats + config.value_beats)
        self.latency = Timing(config).feeder
        if self.latency != 3:
            raise ValueError(f"feeder latency must be 3, not {self.latency!r}")
        load = load_word(config, config.bus_bits, self.depth)
        super().__init__(
            {
                "word": In(west_word(config)),
                "word_out": Out(west_word(config)),
                "load": In(load),
                "load_out": Out(load),
                "bus": Out(west_bus(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        elements = data.ArrayLayout(BF16, self.config.beat_elements)

        # First cycle: the bank is read.
        m.submodules.bank = bank = Memory(shape=unsigned(self.config.bus_bits), depth=self.depth, init=[])
        write, read = bank.write_port(), bank.read_port()
        op = self.word.control.op
        m.d.comb += [
            write.en.eq(load_chain(m, self.load, self.load_out)),
            write.addr.eq(self.load.beat),
            write.data.eq(self.load.payload),
            read.en.eq((op == OpCode.QK) | (op == OpCode.SLNV)),
            read.addr.eq(self.word.beat),
        ]
        word = Signal(west_word(self.config))
        hand_on(m, self.word, word, RESET_FIELDS, "word_")
        m.d.comb += [self.word_out.eq(word), self.word_out.row.eq(word.row + 1)]

        # Second cycle: the element is selected. In a row without a key it is zero: the bank may never have been written there.
        element = Signal(BF16, reset_less=True)
        m.d.sync += element.eq(data.View(elements, read.data)[word.element])
        with m.If(word.bias):
            m.d.sync += element.eq(Mux(word.row == word.keys, ONE, 0))
        with m.Elif(word.row >= word.keys):
            m.d.sync += element.eq(0)
        selected = Signal(west_word(self.config))
        hand_on(m, word, selected, RESET_FIELDS, "selected_")

        # Third cycle: the operand is made of it.
        sig = Signal(signed(9))
        exponent = Signal(8)
        zero = element.exponent == 0
        magnitude = Cat(element.mantissa, Const(1, 1), Const(0, 1))
        m.d.comb += [
            sig.eq(Mux(zero, 0, Mux(element.sign, -magnitude.as_signed(), magnitude))),
            exponent.eq(Mux(selected.control.mask, selected.row, ~element.exponent)),
        ]
        if self.config.functions or self.config.entropy:
            with m.If(selected.constant):
                m.d.comb += [sig.eq(selected.sig), exponent.eq(selected.exponent)]
        bus = Signal(west_bus(self.config))
        m.d.comb += [bus.control.eq(selected.control), bus.sig.eq(sig), bus.exponent.eq(exponent)]
        hand_on(m, bus, self.bus, RESET_FIELDS, "bus_")
        return m

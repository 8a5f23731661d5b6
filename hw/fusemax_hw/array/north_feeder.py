"""North feeder: bank of one column's queries, mask bits and biases, and ring of its references, read as the words pass."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import NORTH_BITS, Config, Timing

from ..pe.hand_on import hand_on
from ..pe.interval import KeyInterval
from ..words import NorthSource, load_word, loaded_query, north_bus, north_word, reference_word
from .load_chain import load_chain

__all__ = ["NorthFeeder"]


class NorthFeeder(wiring.Component):
    """Feeder of one column.

    A word that is on ``word`` in cycle t is on ``word_out`` in t + 1 as the next column needs it, and its operand on ``bus``
    in t + :attr:`latency`. A reference that is on ``reference_in`` in cycle t is there for words of cycle t - 1 and later: a
    word reads the ring in its last cycle. Loaded words as in :class:`~fusemax_hw.array.west_feeder.WestFeeder`.

    Parameters
    ----------
    config : Config
        Machine.

    Members
    -------
    word, word_out : north_word
        Words for this column and for the next.
    load, load_out : load_word of a bank word (``loaded_query``)
        Scaled query elements.
    reference_in : In(reference_word)
        From the lane below.
    bus : Out(north_bus)
        To the column's first PE: query element or bias; RM' + 1; a constant; or which keys the column's query sees, none if no
        query is left for this column.

    Raises
    ------
    ValueError
        If a reference does not fit the operand.
    """

    module_name = "fusemax_north_feeder"

    def __init__(self, config: Config):
        self.config = config
        self.latency = Timing(config).feeder
        if self.latency != 3:
            raise ValueError(f"feeder latency must be 3, not {self.latency!r}")
        operand_bits = len(Signal(north_bus(config)).operand)
        if config.reference_bits >= operand_bits:
            raise ValueError(
                f"score_bits - score_frac_bits must be at most {operand_bits - 2}, so that references fit the "
                f"north operand, not {config.reference_bits - 1}"
            )
        load = load_word(config, loaded_query(config).size, config.query_bank_words)
        super().__init__(
            {
                "word": In(north_word(config)),
                "word_out": Out(north_word(config)),
                "load": In(load),
                "load_out": Out(load),
                "reference_in": In(reference_word(config)),
                "bus": Out(north_bus(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config

        # First cycle: the bank is read.
        m.submodules.bank = bank = Memory(shape=loaded_query(config), depth=config.query_bank_words, init=[])
        write, read = bank.write_port(), bank.read_port()
        m.d.comb += [
            write.en.eq(load_chain(m, self.load, self.load_out)),
            write.addr.eq(self.load.beat),
            write.data.eq(self.load.payload),
            read.en.eq((self.word.source == NorthSource.QUERY) | (self.word.source == NorthSource.INTERVAL)),
            read.addr.eq(self.word.beat),
        ]
        word = Signal(north_word(config))
        hand_on(m, self.word, word, frozenset(), "word_")
        left = word.queries != 0
        m.d.comb += [self.word_out.eq(word), self.word_out.queries.eq(Mux(left, word.queries - 1, 0))]
        position_ends = word.phase == word.share
        m.d.comb += [
            self.word_out.phase.eq(Mux(position_ends, 0, word.phase + 1)),
            self.word_out.lo.eq(word.lo + position_ends),
            self.word_out.hi.eq(word.hi + position_ends),
        ]

        # The ring: RM' as EXP takes it.
        ring = [Signal(signed(18), name=f"reference_{index}", reset_less=True) for index in range(config.holds)]
        for index, entry in enumerate(ring):
            with m.If(self.reference_in.valid & (self.reference_in.hold == index)):
                m.d.sync += entry.eq(self.reference_in.reference + 1)

        # Second cycle: the element is selected.
        element = Signal(north_bus(config), reset_less=True)
        selected = Signal(north_word(config))
        interval = Signal(KeyInterval, reset_less=True)
        m.d.sync += [
            element.eq(read.data[word.element]),
            interval.lo.eq(Mux(word.lo < 0, 0, Mux(word.lo > config.rows, config.rows, word.lo))),
            interval.hi.eq(Mux(~left | (word.hi < 0), 0, Mux(word.hi > word.keys, word.keys, word.hi))),
        ]
        hand_on(m, word, selected, frozenset(), "selected_")

        # Third cycle: the element, the ring's entry, the rows that are seen, or the constant.
        bus = Signal(north_bus(config))
        m.d.comb += bus.exponent.eq(element.exponent)
        with m.Switch(selected.source):
            with m.Case(NorthSource.REFERENCE):
                m.d.comb += bus.operand.eq(Array(ring)[selected.hold] if len(ring) > 1 else ring[0])
            with m.Case(NorthSource.INTERVAL):
                m.d.comb += self._rows_seen(bus, interval, element, selected.bits)
            if config.linear:
                with m.Case(NorthSource.CONSTANT):
                    m.d.comb += bus.operand.eq(selected.keys.as_signed())
            with m.Default():
                m.d.comb += bus.operand.eq(element.operand)
        hand_on(m, bus, self.bus, frozenset(), "bus_")
        return m

    def _rows_seen(self, bus: data.View, interval: data.View, element: data.View, bits: Value) -> Any:
        """Say which rows are seen: those of the interval, and of these perhaps only those whose bit is set."""
        rows = self.config.rows
        if rows > NORTH_BITS:
            return bus.operand.eq(interval.as_value())
        return bus.as_value().eq(
            Cat((interval.lo <= row) & (interval.hi > row) & (~bits | element.as_value()[row]) for row in range(rows))
        )

"""Running reference of a column's queries, and the distances by which their states are to be rescaled."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from fusemax.arith.reference import MAX_DISTANCE
from fusemax.spec import Config

from ..words import lane_word, partial_bus, reference_word

__all__ = ["RunningReference"]


class RunningReference(wiring.Component):
    """RM' = max(RM, ceil(LM / 2^SF)).

    Model: :func:`fusemax.arith.reference.update_reference`. RM of the resident queries stays here. Words with the same address
    are at least ``latency + 1`` cycles apart.

    Parameters
    ----------
    config : Config

    Members
    -------
    word : In(lane_word(config))
        Control, in step with ``partial``; used if ``max``.
    partial : In(partial_bus(config))
        Largest visible score of the tile, and whether there is one.
    reference : Out(reference_word(config))
        After :attr:`latency` cycles.
    distances : Out(ArrayLayout(8, holds))
        min(RM' - RM, 255), or 255 if there was no RM, of the last word with every ``hold_max``; a cycle later than
        ``reference``.
    latest : Out(ArrayLayout(signed(reference_bits), holds))
        RM' likewise; 0 if the query has not seen a key.
    """

    #: Register stages: round up; compare.
    latency = 2

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "word": In(lane_word(config)),
                "partial": In(partial_bus(config)),
                "reference": Out(reference_word(config)),
                "distances": Out(data.ArrayLayout(unsigned(8), config.holds)),
                "latest": Out(data.ArrayLayout(signed(config.reference_bits), config.holds)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        frac_bits = config.score_frac_bits

        m.submodules.references = references = memory.Memory(
            shape=data.StructLayout({"reference": signed(config.reference_bits), "valid": 1}),
            depth=config.reference_words,
            init=[],
        )
        read, write = references.read_port(), references.write_port()

        # Stage 1: read, and round the score up.
        score = (~self.partial.value[: config.score_bits]).as_signed()
        rounded_up = Signal(signed(config.reference_bits))
        visible, first, used = Signal(), Signal(), Signal()
        address = Signal.like(self.word.reference)
        hold = Signal.like(self.word.hold_max)
        m.d.comb += [
            read.addr.eq(self.word.reference),
            read.en.eq(self.word.max),
        ]
        m.d.sync += [
            used.eq(self.word.max),
            rounded_up.eq((score >> frac_bits) + score[:frac_bits].any()),
            visible.eq(self.partial.valid),
            first.eq(self.word.first_max),
            address.eq(self.word.reference),
            hold.eq(self.word.hold_max),
        ]

        # Stage 2: compare.
        old_valid = read.data.valid & ~first
        rise = rounded_up - read.data.reference
        grows = Signal()
        m.d.comb += grows.eq(visible & (rise > 0))
        was_none, grew, valid = Signal(), Signal(), Signal()
        rise_2 = Signal(config.reference_bits)
        address_2 = Signal.like(address)
        m.d.sync += [
            self.reference.valid.eq(used),
            self.reference.hold.eq(hold),
            self.reference.reference.eq(Mux(~old_valid | grows, rounded_up, read.data.reference)),
            valid.eq(old_valid | visible),
            was_none.eq(~old_valid),
            grew.eq(grows),
            rise_2.eq(rise[: config.reference_bits]),
            address_2.eq(address),
        ]

        # Write back.
        m.d.comb += [
            write.addr.eq(address_2),
            write.data.reference.eq(self.reference.reference),
            write.data.valid.eq(valid),
            write.en.eq(self.reference.valid),
        ]
        saturated = was_none | (grew & (rise_2 > MAX_DISTANCE))
        with m.If(self.reference.valid):
            m.d.sync += [
                self.distances[self.reference.hold].eq(Mux(saturated, MAX_DISTANCE, Mux(grew, rise_2[:8], 0))),
                self.latest[self.reference.hold].eq(Mux(valid, self.reference.reference, 0)),
            ]
        return m

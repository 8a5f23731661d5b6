"""Cutting a run of bus words into AXI4 bursts."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import MICROWORD, PAGE_BYTES, PROGRAM_HEADER, Config, ceil_div

__all__ = ["BurstSplitter", "beat_bits", "cut_layout", "run_layout"]


def beat_bits(config: Config) -> int:
    """Bits that number the bus words of a run: of a row, or of a program with its header."""
    header, words = PROGRAM_HEADER.bits, config.program_words * MICROWORD.bits
    program = ceil_div(header, config.bus_bits) + ceil_div(words, config.bus_bits)
    return max(9, program.bit_length())


def run_layout(config: Config, tag: ShapeLike) -> data.StructLayout:
    """A run of bus words, one or more, from a bus word's address, and what its user wants to know of it later."""
    return data.StructLayout({"address": unsigned(config.address_bits), "beats": unsigned(beat_bits(config)), "tag": tag})


def cut_layout(config: Config, tag: ShapeLike) -> data.StructLayout:
    """A burst of a run."""
    return data.StructLayout(
        {
            "address": unsigned(config.address_bits),
            "length": unsigned(8),  #: words less one, as AXI4 wants it
            "start": unsigned(beat_bits(config)),  #: number within the run of its first word
            "last": 1,  #: the run's last burst
            "tag": tag,
        }
    )


class BurstSplitter(wiring.Component):
    """Cut runs of bus words into AXI4 bursts.

    A burst does not cross a 4 KB boundary (AXI4, section A3.4.1) nor exceed 256 words. A run's first burst comes one cycle
    after the run, every other one two cycles after the one before.

    Members
    -------
    runs : In(stream.Signature(run_layout(config, tag)))
        Runs; one is taken when the one before is cut up.
    bursts : Out(stream.Signature(cut_layout(config, tag)))
        Their bursts, in order.
    """

    def __init__(self, config: Config, tag: ShapeLike):
        self.config = config
        self._run = run_layout(config, tag)
        super().__init__(
            {
                "runs": In(stream.Signature(self._run)),
                "bursts": Out(stream.Signature(cut_layout(config, tag))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word_log2 = exact_log2(self.config.bus_bytes)
        address = Signal(self.config.address_bits)
        tag = Signal.like(self.runs.payload.tag)
        more, start = (Signal(beat_bits(self.config), name=name) for name in ("more", "start"))
        valid, last, settling = Signal(), Signal(), Signal()

        def words(address: Any) -> Any:
            """Words to the page's end, less one: the inverted number of the word in its page; then at most 255."""
            inverted = ~address[word_log2 : exact_log2(PAGE_BYTES)]
            return inverted[:8] | inverted[8:].any().replicate(len(inverted[:8]))

        room = words(address)
        m.d.comb += [
            self.bursts.valid.eq(valid & ~settling),
            self.bursts.payload.address.eq(address),
            self.bursts.payload.length.eq(Mux(last, more, room)),
            self.bursts.payload.start.eq(start),
            self.bursts.payload.last.eq(last),
            self.bursts.payload.tag.eq(tag),
            self.runs.ready.eq(~valid | (self.bursts.ready & last)),
        ]
        # Whether a burst is the run's last one is a register; behind one that is not, a cycle passes in which it settles.
        with m.If(settling):
            m.d.sync += [settling.eq(0), last.eq(more <= room)]
        with m.Elif(self.bursts.ready & valid & ~last):
            m.d.sync += [
                settling.eq(1),
                address.eq(address + ((room + 1) << word_log2)),
                more.eq(more - room - 1),
                start.eq(start + room + 1),
            ]
        with m.If(self.runs.ready):
            run = self.runs.payload
            m.d.sync += [
                valid.eq(self.runs.valid),
                last.eq(run.beats - 1 <= words(run.address)),
                address.eq(run.address),
                more.eq(run.beats - 1),
                start.eq(0),
                tag.eq(run.tag),
            ]
        return m

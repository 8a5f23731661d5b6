"""Cutting a run of bus words into AXI4 bursts."""

from typing import Any

from amaranth.hdl import Module, Mux, ShapeLike, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

__all__ = ["BurstSplitter", "run_layout"]

PAGE_BYTES = 4096


def run_layout(config: Config, tag: ShapeLike) -> data.StructLayout:
    """A run of 1 to 511 bus words from a bus word's address, and what its user wants to know of it later."""
    return data.StructLayout({"address": unsigned(config.address_bits), "beats": unsigned(9), "tag": tag})


class BurstSplitter(wiring.Component):
    """Runs of bus words to bursts that do not cross a 4 KB boundary (AXI4, section A3.4.1) nor exceed 256 words.

    One burst per cycle, one cycle after its run.

    Members
    -------
    runs : In(stream.Signature(run_layout(config, tag)))
    bursts : Out(stream.Signature(...))
        ``start``: number within the run of the burst's first word; ``last``: the run's last burst.
    """

    def __init__(self, config: Config, tag: ShapeLike):
        self.config = config
        self._run = run_layout(config, tag)
        super().__init__(
            {
                "runs": In(stream.Signature(self._run)),
                "bursts": Out(
                    stream.Signature(
                        data.StructLayout(
                            {
                                "address": unsigned(config.address_bits),
                                "beats": unsigned(9),
                                "start": unsigned(9),
                                "last": 1,
                                "tag": tag,
                            }
                        )
                    )
                ),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word_log2 = (self.config.bus_bytes - 1).bit_length()
        page_words = PAGE_BYTES // self.config.bus_bytes
        run = Signal(self._run)
        start = Signal(9)
        valid = Signal()

        to_boundary = Signal(range(page_words + 1))
        room = Signal(range(max(page_words, 256) + 1))
        beats = Signal(9)
        last = Signal()
        word_in_page = run.address[word_log2:12]
        m.d.comb += [
            to_boundary.eq(page_words - word_in_page),
            room.eq(Mux(to_boundary > 256, 256, to_boundary)),
            last.eq(run.beats <= room),
            beats.eq(Mux(last, run.beats, room)),
            self.bursts.valid.eq(valid),
            self.bursts.payload.address.eq(run.address),
            self.bursts.payload.beats.eq(beats),
            self.bursts.payload.start.eq(start),
            self.bursts.payload.last.eq(last),
            self.bursts.payload.tag.eq(run.tag),
            self.runs.ready.eq(~valid | (self.bursts.ready & last)),
        ]
        with m.If(self.bursts.ready & valid):
            m.d.sync += [
                run.address.eq(run.address + (beats << word_log2)),
                run.beats.eq(run.beats - beats),
                start.eq(start + beats),
            ]
        with m.If(self.runs.ready):
            m.d.sync += [valid.eq(self.runs.valid), run.eq(self.runs.payload), start.eq(0)]
        return m

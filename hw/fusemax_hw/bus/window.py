"""Which bursts may be begun: those that stay within a window of addresses."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from .bursts import PAGE_BYTES, cut_layout

__all__ = ["WindowStage"]


class WindowStage(wiring.Component):
    """Register stage for bursts, and whether each of them is within the window. A burst per cycle.

    No burst crosses a page. So of its last word page and place in the page are compared beside each other.

    Members
    -------
    bursts : In(stream.Signature(cut_layout(config, tag)))
    checked : Out(stream.Signature(cut_layout(config, tag)))
    allowed : Out(1)
        Beside ``checked``: all of its words are within the window.
    first, last : In(address_bits)
        The window's first and last byte; bus words that hold one of them belong to it.
    """

    def __init__(self, config: Config, tag: ShapeLike):
        self.config = config
        burst = cut_layout(config, tag)
        super().__init__(
            {
                "bursts": In(stream.Signature(burst)),
                "checked": Out(stream.Signature(burst)),
                "allowed": Out(1),
                "first": In(config.address_bits),
                "last": In(config.address_bits, init=(1 << config.address_bits) - 1),  # pyright: ignore[reportCallIssue]
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        word_log2, page_log2 = (self.config.bus_bytes - 1).bit_length(), (PAGE_BYTES - 1).bit_length()
        burst = self.bursts.payload
        page, last_page = burst.address[page_log2:], self.last[page_log2:]
        before, behind, same_page, over = (Signal(name=name) for name in ("before", "behind", "same_page", "over"))
        end = Signal(page_log2 - word_log2)
        m.d.comb += [
            self.bursts.ready.eq(~self.checked.valid | self.checked.ready),
            end.eq(burst.address[word_log2:page_log2] + burst.length),
            self.allowed.eq(~(before | behind | (same_page & over))),
        ]
        with m.If(self.bursts.ready):
            m.d.sync += [
                self.checked.valid.eq(self.bursts.valid),
                self.checked.payload.eq(burst),
                before.eq(burst.address[word_log2:] < self.first[word_log2:]),
                behind.eq(page > last_page),
                same_page.eq(page == last_page),
                over.eq(end > self.last[word_log2:page_log2]),
            ]
        return m

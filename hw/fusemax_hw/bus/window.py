"""Which bursts may be begun: those that stay within a window of addresses."""

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import PAGE_BYTES, Config

from .bursts import cut_layout
from .skid import SkidBuffer

__all__ = ["WindowStage"]


class WindowStage(wiring.Component):
    """Compare bursts with a window of addresses.

    A register stage (a skid buffer) of one burst per cycle. No burst crosses a page: so of its last word, page and place in the
    page are compared beside each other.

    Members
    -------
    bursts : In(stream.Signature(cut_layout(config, tag)))
        Bursts.
    checked : Out(stream.Signature(cut_layout(config, tag)))
        The same, in order.
    allowed : Out(1)
        All words of the burst in ``checked`` are within the window; counts while ``checked.valid`` is high.
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
        word_log2, page_log2 = exact_log2(self.config.bus_bytes), exact_log2(PAGE_BYTES)
        burst = self.bursts.payload
        page, last_page = burst.address[page_log2:], self.last[page_log2:]
        end = Signal(page_log2 - word_log2)
        flags = ("before", "behind", "same_page", "over")
        m.submodules.skid = skid = SkidBuffer(data.StructLayout({"burst": burst.shape(), **dict.fromkeys(flags, 1)}))
        new, old = skid.sink.payload, skid.source.payload
        m.d.comb += [
            skid.sink.valid.eq(self.bursts.valid),
            self.bursts.ready.eq(skid.sink.ready),
            end.eq(burst.address[word_log2:page_log2] + burst.length),
            new.burst.eq(burst),
            new.before.eq(burst.address[word_log2:] < self.first[word_log2:]),
            new.behind.eq(page > last_page),
            new.same_page.eq(page == last_page),
            new.over.eq(end > self.last[word_log2:page_log2]),
            self.checked.valid.eq(skid.source.valid),
            skid.source.ready.eq(self.checked.ready),
            self.checked.payload.eq(old.burst),
            self.allowed.eq(~(old.before | old.behind | (old.same_page & old.over))),
        ]
        return m

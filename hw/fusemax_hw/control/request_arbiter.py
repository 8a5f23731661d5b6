"""Request arbiter: which row is read next."""

from typing import Any

from amaranth.hdl import Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..bus.bursts import run_layout
from ..bus.skid import SkidBuffer
from .load_walker import load_tag, row_layout

__all__ = ["RequestArbiter"]

#: Ports of rows, in the order of ties.
ROW_PORTS = ("query", "key", "mask", "bias", "value")


class RequestArbiter(wiring.Component):
    """Choose the read that is needed first.

    Control (descriptors and programs) goes first, then rows in the order of first use; ties in the order of the ports.
    There is one request per cycle. Deadlines are compared a cycle ahead: a port shows its deadline a cycle before it is valid.
    What was chosen stays chosen, in a skid buffer.

    Members
    -------
    control : In(stream.Signature(run_layout(config, load_tag(config))))
        Reads of descriptors and programs.
    query, key, mask, bias, value : In(stream.Signature(row_layout(config)))
        Rows of each; the deadline counts in the cycle before ``valid``, too.
    runs : Out(stream.Signature(run_layout(config, load_tag(config))))
        What to read.
    """

    def __init__(self, config: Config):
        tag = load_tag(config)
        row = row_layout(config)
        super().__init__(
            {
                "control": In(stream.Signature(run_layout(config, tag))),
                **{name: In(stream.Signature(row)) for name in ROW_PORTS},
                "runs": Out(stream.Signature(run_layout(config, tag))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ports = [getattr(self, name) for name in ROW_PORTS]

        def not_later(one: Any, other: Any) -> Any:
            """Deadlines are modulo a power of two. If they are half of it apart the order is another, which does no harm."""
            return ~(other - one)[len(one) - 1]

        def goes_first(one: int) -> Any:
            """A port is before all that come behind it in the order of ties."""
            first = Const(1)
            for other in range(one + 1, len(ports)):
                before = Signal(init=1, name=f"{ROW_PORTS[one]}_before_{ROW_PORTS[other]}")
                m.d.sync += before.eq(not_later(ports[one].payload.deadline, ports[other].payload.deadline))
                first = first & (before | ~ports[other].valid)
            return first

        m.submodules.skid = skid = SkidBuffer(self.runs.payload.shape())
        wiring.connect(m, skid.source, wiring.flipped(self.runs))

        def take(port: Any) -> None:
            m.d.comb += [port.ready.eq(skid.sink.ready), skid.sink.valid.eq(1)]
            m.d.comb += [skid.sink.payload[field].eq(port.payload[field]) for field in ("address", "beats", "tag")]

        choices = [goes_first(index) for index in range(len(ports))]
        with m.If(self.control.valid):
            take(self.control)
        for port, first in zip(ports, choices, strict=True):
            with m.Elif(port.valid & first):
                take(port)
        return m

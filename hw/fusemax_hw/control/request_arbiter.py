"""Request arbiter: which row is read next."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..bus.bursts import run_layout
from ..bus.skid import SkidBuffer
from .load_walker import load_tag, row_layout

__all__ = ["RequestArbiter"]


class RequestArbiter(wiring.Component):
    """Choose the read that is needed first.

    Control (descriptors and programs) goes first, then Q, K and V in the order of first use; ties in that order. There is one
    request per cycle. Deadlines are compared a cycle ahead: a port shows its deadline a cycle before it is valid. What was
    chosen stays chosen, in a skid buffer.

    Members
    -------
    control : In(stream.Signature(run_layout(config, load_tag(config))))
        Reads of descriptors and programs.
    query, key, value : In(stream.Signature(row_layout(config)))
        Rows of Q, K and V; the deadline counts in the cycle before ``valid``, too.
    runs : Out(stream.Signature(run_layout(config, load_tag(config))))
        What to read.
    """

    def __init__(self, config: Config):
        tag = load_tag(config)
        row = row_layout(config)
        super().__init__(
            {
                "control": In(stream.Signature(run_layout(config, tag))),
                "query": In(stream.Signature(row)),
                "key": In(stream.Signature(row)),
                "value": In(stream.Signature(row)),
                "runs": Out(stream.Signature(run_layout(config, tag))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        query, key, value = (port.payload.deadline for port in (self.query, self.key, self.value))

        def not_later(one: Any, other: Any) -> Any:
            """Deadlines are modulo a power of two. If they are half of it apart the order is another, which does no harm."""
            return ~(other - one)[len(one) - 1]

        query_before_key, query_before_value, key_before_value = Signal(init=1), Signal(init=1), Signal(init=1)
        m.d.sync += [
            query_before_key.eq(not_later(query, key)),
            query_before_value.eq(not_later(query, value)),
            key_before_value.eq(not_later(key, value)),
        ]

        m.submodules.skid = skid = SkidBuffer(self.runs.payload.shape())
        wiring.connect(m, skid.source, wiring.flipped(self.runs))

        def take(port: Any) -> None:
            m.d.comb += [port.ready.eq(skid.sink.ready), skid.sink.valid.eq(1)]
            m.d.comb += [skid.sink.payload[field].eq(port.payload[field]) for field in ("address", "beats", "tag")]

        with m.If(self.control.valid):
            take(self.control)
        with m.Elif(self.query.valid & (query_before_key | ~self.key.valid) & (query_before_value | ~self.value.valid)):
            take(self.query)
        with m.Elif(self.key.valid & (key_before_value | ~self.value.valid)):
            take(self.key)
        with m.Elif(self.value.valid):
            take(self.value)
        return m

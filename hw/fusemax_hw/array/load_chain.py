"""Loaded bus words on their way along an edge."""

from amaranth.hdl import Module, Signal, Value
from amaranth.lib import data

from ..pe.hand_on import hand_on

__all__ = ["load_chain"]


def load_chain(m: Module, load: data.View, load_out: data.View) -> Value:
    """Hand ``load`` on to ``load_out`` a cycle later unless it has arrived; returns whether it has (write the bank)."""
    arrived = Signal()
    onward = Signal(load.shape(), name="load_onward")
    m.d.comb += [
        arrived.eq(load.valid & (load.skip == 0)),
        onward.eq(load),
        onward.valid.eq(load.valid & (load.skip != 0)),
        onward.skip.eq(load.skip - 1),
    ]
    hand_on(m, onward, load_out, frozenset({"valid"}), "load_")
    return arrived

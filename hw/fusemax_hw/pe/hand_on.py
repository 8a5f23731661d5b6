"""Register between neighbours: a bundle handed on a cycle later."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import data

__all__ = ["hand_on"]


def hand_on(m: Module, source: data.View, target: data.View, reset: frozenset[str], prefix: str = "") -> None:
    """Drive ``target`` with ``source`` of a cycle ago, field by field.

    Only the fields named in ``reset`` (at any depth) are cleared by the reset: those that make others count.
    """
    for name, field in source.shape():
        parts: Any = source[name]
        if isinstance(field.shape, data.StructLayout):
            hand_on(m, parts, target[name], reset, f"{prefix}{name}_")
            continue
        register = Signal(field.shape, name=f"{prefix}{name}", reset_less=name not in reset)
        m.d.sync += register.eq(parts)
        m.d.comb += target[name].eq(register)

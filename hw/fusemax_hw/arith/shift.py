"""Shifters that keep the operand's width, largest step first."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value

__all__ = ["shift_left", "shift_right_sticky"]


def shift_left(m: Module, value: Value, amount: Value, name: str = "shift_left") -> Value:
    """``value`` · 2^amount without the bits above ``value``'s width; combinational."""
    width = len(value)
    for bit in reversed(range(len(amount))):
        step = min(1 << bit, width)
        shifted = Signal(width, name=f"{name}_{bit}")
        m.d.comb += shifted.eq(Mux(amount[bit], Cat(C(0, step), value[: width - step]), value))
        value = shifted
    return value


def shift_right_sticky(m: Module, value: Value, amount: Value, name: str = "shift_right") -> tuple[Value, Value]:
    """``value`` >> amount, and whether a one was shifted out; combinational."""
    width = len(value)
    lost = Signal(len(amount), name=f"{name}_lost")
    for bit in reversed(range(len(amount))):
        step = min(1 << bit, width)
        shifted = Signal(width, name=f"{name}_{bit}")
        m.d.comb += [
            shifted.eq(Mux(amount[bit], value[step:], value)),
            lost[bit].eq(amount[bit] & value[:step].any()),
        ]
        value = shifted
    return value, lost.any()

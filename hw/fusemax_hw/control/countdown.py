"""A loop's counter that knows a cycle ahead whether it is at its end."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal

__all__ = ["Countdown"]


class Countdown:
    """Iterations left. That the last one is under way is a register: nothing is compared in the cycle that asks for it.

    Parameters
    ----------
    m : Module
        Where the registers go.
    bits : int
        Width of the number.
    name : str
        Prefix of the registers' names.

    Members
    -------
    left : Signal(bits)
        Iterations after this one.
    last : Signal()
        There is none.
    """

    def __init__(self, m: Module, bits: int, name: str):
        self._m = m
        self.left = Signal(bits, name=f"{name}_left")
        self.last = Signal(name=f"{name}_last")

    def start(self, more: Any) -> None:
        """Statement: ``more`` + 1 iterations from the next cycle on."""
        self._m.d.sync += [self.left.eq(more), self.last.eq(more == 0)]

    def step(self, again: Any) -> None:
        """Statement: on to the next iteration; behind the last one, ``again`` + 1 iterations anew."""
        self._m.d.sync += [
            self.left.eq(Mux(self.last, again, self.left - 1)),
            self.last.eq(Mux(self.last, again == 0, self.left == 1)),
        ]

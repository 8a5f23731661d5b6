"""Values that travel together from register stage to register stage."""

from typing import Any

from amaranth.hdl import Module, Signal, Value

__all__ = ["Pipeline"]


class Pipeline:
    """Named values of the stage that is being described.

    Set an attribute to let a value travel along, read it in this or a later stage; :meth:`register` starts the next
    stage. What no later stage reads is taken out (``del``) or kept out by :meth:`register`.

    Parameters
    ----------
    m : Module
        Where the registers go.
    stage : str
        Name of the first stage.
    reset : frozenset of str
        Names whose registers are cleared by the reset; the others hold data that counts only beside these.
    """

    def __init__(self, m: Module, stage: str, reset: frozenset[str]):
        object.__setattr__(self, "_m", m)
        object.__setattr__(self, "_reset", reset)
        object.__setattr__(self, "_stage", stage)
        object.__setattr__(self, "_values", {})

    def __setattr__(self, name: str, value: Any) -> None:
        value = Value.cast(value)
        named = Signal(value.shape(), name=f"{self._stage}_{name}")
        self._m.d.comb += named.eq(value)
        self._values[name] = named

    def __getattr__(self, name: str) -> Value:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"stage must have a value {name!r}") from None

    def __delattr__(self, name: str) -> None:
        del self._values[name]

    def register(self, stage: str, *, last_read: tuple[str, ...] = (), when: bool = True) -> None:
        """Begin ``stage``, behind a register if ``when``; values ``last_read`` by the stage before do not reach it."""
        for name in last_read:
            del self._values[name]
        object.__setattr__(self, "_stage", stage)
        if not when:
            return
        for name, value in self._values.items():
            later = Signal(value.shape(), name=f"{stage}_{name}", reset_less=name not in self._reset)
            self._m.d.sync += later.eq(value)
            self._values[name] = later

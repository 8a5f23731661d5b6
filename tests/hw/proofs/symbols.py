"""Plain Python functions on signals: every way through a function becomes a condition.

A function of numbers is called with :class:`Number`, which stands for a signal. Where it asks for the truth of a comparison,
one answer is tried, and at the next call the other one. So a function that returns a truth value becomes a formula, without
being written a second time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value

__all__ = ["Number", "formula"]


class _Ways:
    """The way that is taken through a function: answers so far, and what they were about."""

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.asked: list[Any] = []

    def ask(self, condition: Value) -> bool:
        self.asked.append(condition)
        if len(self.asked) > len(self.answers):
            self.answers.append(True)
        return self.answers[len(self.asked) - 1]

    def next(self) -> bool:
        """Turn to the way that is not tried yet; false if there is none."""
        while self.answers and not self.answers[-1]:
            self.answers.pop()
        if self.answers:
            self.answers[-1] = False
        self.asked = []
        return bool(self.answers)


_ways = _Ways()


def _signal(m: Module, value: Any) -> Signal:
    """A signal with that value: what is used often is written down once."""
    signal = Signal(Value.cast(value).shape(), name="number")
    m.d.comb += signal.eq(value)
    return signal


class Truth:
    """The truth of a comparison."""

    def __init__(self, m: Module, value: Any):
        self.m, self.value = m, _signal(m, Value.cast(value).bool())

    def __bool__(self) -> bool:
        return _ways.ask(self.value)

    def __eq__(self, other: Any) -> Any:
        return Truth(self.m, self.value == _plain(other))

    __hash__ = None  # type: ignore[assignment]


class Number:
    """A number that is a signal; operators are exact, as Python's are."""

    def __init__(self, m: Module, value: Any):
        self.m, self.value = m, _signal(m, value)

    def __bool__(self) -> bool:
        return _ways.ask(self.value.bool())

    __hash__ = None  # type: ignore[assignment]


def _plain(operand: Any) -> Any:
    return operand.value if isinstance(operand, (Number, Truth)) else operand


#: Results by operator and operands, so that the same question is the same signal; operands are kept, for their identity.
_known: dict[Any, tuple[Any, Any, Any]] = {}


def _operator(name: str, result: type, swapped: bool) -> Callable[[Any, Any], Any]:
    def apply(self: Number, other: Any) -> Any:
        plain = _plain(other)
        key = (name, swapped, id(self.value), plain if isinstance(plain, int) else id(plain))
        if key not in _known:
            one, two = self.value, plain
            if swapped:
                one, two = two, one
            _known[key] = (result(self.m, _apply(name, one, two)), self.value, plain)
        return _known[key][0]

    return apply


def _sum(values: list[Any]) -> Any:
    """Add from both ends to the middle: every sum has as many bits as it needs."""
    middle = len(values) // 2
    return _sum(values[:middle]) + _sum(values[middle:]) if middle else values[0] if values else Const(0)


def _apply(name: str, one: Any, two: Any) -> Any:
    if one is two and name in ("__eq__", "__le__", "__ge__"):
        return Const(1)
    if isinstance(one, int) and name == "__floordiv__":
        # How many multiples of the divisor are no more.
        return _sum([two * multiple <= one for multiple in range(1, one + 1)])
    if isinstance(one, int) and name == "__mod__":
        return one - _apply("__floordiv__", one, two) * two
    if isinstance(two, int) and two & (two - 1) == 0 and name in ("__floordiv__", "__mod__"):
        return one >> two.bit_length() - 1 if name == "__floordiv__" else one & two - 1
    return getattr(Value.cast(one), name)(two)


for _name in ("add", "sub", "mul", "floordiv", "mod", "lshift", "rshift", "and", "or"):
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__", Number, False))
    setattr(Number, f"__r{_name}__", _operator(f"__{_name}__", Number, True))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Number, f"__{_name}__", _operator(f"__{_name}__", Truth, False))
Number.__neg__ = lambda self: 0 - self  # type: ignore[attr-defined]


def formula(function: Callable[[], Any]) -> Value:
    """When a function returns what is true.

    Parameters
    ----------
    function
        Of no arguments: what it works on it has. It must do the same whenever it is asked the same.
    """
    global _ways
    _ways = _Ways()
    true: list[Value] = []
    while True:
        result = function()
        value = result.value if isinstance(result, (Number, Truth)) else Const(bool(result))
        conditions = [c if answer else ~c for c, answer in zip(_ways.asked, _ways.answers, strict=True)]
        true.append(Cat(*conditions, value.bool()).all())
        if not _ways.next():
            return Cat(true).any()

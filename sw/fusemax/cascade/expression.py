"""Expressions on the right of an Einsum, and in indices, as trees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from .errors import Position

__all__ = [
    "Binary",
    "Call",
    "Expression",
    "Name",
    "Number",
    "Reference",
    "Unary",
    "Variable",
    "factors",
    "index_text",
    "map_expression",
    "variables_of",
    "walk",
]

#: How tightly operators bind; a unary minus binds between multiplication and power.
PRECEDENCE = {"or": 1, "and": 2, "not": 3, **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 4)}
PRECEDENCE |= {"+": 5, "-": 5, "*": 6, "/": 6, "unary -": 7, "**": 8}
ATOM = 9


@dataclass(frozen=True)
class Expression:
    """Any of the nodes below. Equality looks at what is written, not at where."""

    at: Position | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def children(self) -> tuple[Expression, ...]:
        return ()

    @property
    def precedence(self) -> int:
        return ATOM

    def _inside(self, child: Expression, precedence: int) -> str:
        return str(child) if child.precedence >= precedence else f"({child})"


@dataclass(frozen=True)
class Number(Expression):
    """``2``, ``1e-6``, ``inf``, ``pi``."""

    value: float

    def __str__(self) -> str:
        if self.value == math.pi:
            return "pi"
        return f"{self.value:.0f}" if self.value.is_integer() and abs(self.value) < 1e15 else repr(self.value)


@dataclass(frozen=True)
class Variable(Expression):
    """Coordinate of a rank, in lower case: ``m1``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Name(Expression):
    """Shape of a rank, or a constant, in upper case: ``M1``, ``EPS``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Reference(Expression):
    """A tensor with its indices: ``RM[m1+1, p]``. A tensor without ranks is written without brackets."""

    tensor: str
    indices: tuple[Expression, ...]

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.indices

    @property
    def variables(self) -> tuple[str, ...]:
        """Index variables, in order of appearance."""
        return variables_of(self)

    def __str__(self) -> str:
        if not self.indices:
            return self.tensor
        return f"{self.tensor}[{', '.join(index_text(index) for index in self.indices)}]"


@dataclass(frozen=True)
class Call(Expression):
    """A function of values: ``exp(x)``."""

    function: str
    arguments: tuple[Expression, ...]

    @property
    def children(self) -> tuple[Expression, ...]:
        return self.arguments

    def __str__(self) -> str:
        return f"{self.function}({', '.join(map(str, self.arguments))})"


@dataclass(frozen=True)
class Unary(Expression):
    """``-x`` or ``not x``."""

    operator: str
    operand: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.operand,)

    @property
    def precedence(self) -> int:
        return PRECEDENCE["not" if self.operator == "not" else "unary -"]

    def __str__(self) -> str:
        return f"{'not ' if self.operator == 'not' else '-'}{self._inside(self.operand, self.precedence)}"


@dataclass(frozen=True)
class Binary(Expression):
    """Arithmetic, a comparison, ``and`` or ``or``."""

    operator: str
    left: Expression
    right: Expression

    @property
    def children(self) -> tuple[Expression, ...]:
        return (self.left, self.right)

    @property
    def precedence(self) -> int:
        return PRECEDENCE[self.operator]

    def __str__(self) -> str:
        own = self.precedence
        # Only powers group from the right, and comparisons do not chain.
        left = own + 1 if self.operator == "**" or own == PRECEDENCE["<"] else own
        right = PRECEDENCE["unary -"] if self.operator == "**" else own + 1
        return f"{self._inside(self.left, left)} {self.operator} {self._inside(self.right, right)}"


def index_text(index: Expression) -> str:
    """Write an index without spaces around its operators, as in ``m1*M0+m0``."""
    text = str(index)
    return text.replace(" + ", "+").replace(" - ", "-").replace(" * ", "*")


def walk(expression: Expression) -> Iterator[Expression]:
    """Visit all nodes, in the order of the text."""
    yield expression
    for child in expression.children:
        yield from walk(child)


def variables_of(*expressions: Expression) -> tuple[str, ...]:
    """List the variables in order of appearance."""
    return tuple(dict.fromkeys(n.name for expression in expressions for n in walk(expression) if isinstance(n, Variable)))


def map_expression(function: Callable[[Expression], Expression], expression: Expression) -> Expression:
    """Replace every node by ``function`` of it, the leaves first."""
    match expression:
        case Reference(_, indices):
            expression = replace(expression, indices=tuple(map_expression(function, index) for index in indices))
        case Call(_, arguments):
            expression = replace(expression, arguments=tuple(map_expression(function, argument) for argument in arguments))
        case Unary(_, operand):
            expression = replace(expression, operand=map_expression(function, operand))
        case Binary(_, left, right):
            expression = replace(expression, left=map_expression(function, left), right=map_expression(function, right))
    return function(expression)


def factors(expression: Expression) -> tuple[list[Expression], list[Expression]]:
    """List what a product multiplies, and what it divides by: ``a * b / c`` gives [a, b] and [c]."""
    if isinstance(expression, Binary) and expression.operator in ("*", "/"):
        above, below = factors(expression.left)
        right_above, right_below = factors(expression.right)
        if expression.operator == "/":
            right_above, right_below = right_below, right_above
        return above + right_above, below + right_below
    return [expression], []

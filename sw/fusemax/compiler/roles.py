"""What values are in attention on the array, and which operation makes which from which."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .array_program import Operation

__all__ = ["INDICES", "ON_ARRAY", "PRODUCTS", "REDUCTIONS", "RULES", "START", "Role", "Rule", "Value", "When"]


class Role(enum.Enum):
    """What a value is in attention; the text is how errors call it."""

    OPERAND = "an input"
    SCORE = "scores"
    TILE_MAXIMUM = "the maximum of a tile"
    MAXIMUM = "the running maximum"
    WEIGHT = "weights exp(score - running maximum)"
    FACTOR = "the factor exp(old - new running maximum)"
    TILE_SUM = "the sum of a tile's weights"
    TILE_NUMERATOR = "the sum of a tile's weighted values"
    DENOMINATOR = "the running denominator"
    NUMERATOR = "the running numerator"
    SCALED_DENOMINATOR = "the running denominator times the factor"
    SCALED_NUMERATOR = "the running numerator times the factor"
    RESULT = "the result"


class When(enum.Enum):
    """Which step of a state is meant."""

    OLD = "before the tile"
    NEW = "after the tile"
    LAST = "after the last tile"


@dataclass(frozen=True)
class Value:
    """Role of an expression and, of a state, its tensor and step."""

    role: Role
    state: str | None = None
    when: When | None = None


@dataclass(frozen=True)
class Rule:
    """``left operator right`` and what it gives; each is a role and, of a state, its step.

    ``exp`` stands for the exponential of a difference. The operands of ``max``, ``*`` and ``+`` may change places.
    """

    operator: str
    left: tuple[Role, When | None]
    right: tuple[Role, When | None]
    gives: tuple[Role, When | None]

    def apply(self, left: Value, right: Value) -> Value | None:
        """Find what the operator gives; none if the rule is about other operands."""
        orders = ((left, right), (right, left)) if self.operator in ("max", "*", "+") else ((left, right),)
        for a, b in orders:
            if (a.role, a.when) == self.left and (b.role, b.when) == self.right:
                role, when = self.gives
                # The left operand is the state, if there is one.
                return Value(role, a.state if when else None, when)
        return None


#: What the lanes compute, and the array's exponential.
RULES = (
    Rule("max", (Role.MAXIMUM, When.OLD), (Role.TILE_MAXIMUM, None), (Role.MAXIMUM, When.NEW)),
    Rule("exp", (Role.SCORE, None), (Role.MAXIMUM, When.NEW), (Role.WEIGHT, None)),
    Rule("exp", (Role.MAXIMUM, When.OLD), (Role.MAXIMUM, When.NEW), (Role.FACTOR, None)),
    Rule("*", (Role.DENOMINATOR, When.OLD), (Role.FACTOR, None), (Role.SCALED_DENOMINATOR, When.OLD)),
    Rule("*", (Role.NUMERATOR, When.OLD), (Role.FACTOR, None), (Role.SCALED_NUMERATOR, When.OLD)),
    Rule("+", (Role.SCALED_DENOMINATOR, When.OLD), (Role.TILE_SUM, None), (Role.DENOMINATOR, When.NEW)),
    Rule("+", (Role.SCALED_NUMERATOR, When.OLD), (Role.TILE_NUMERATOR, None), (Role.NUMERATOR, When.NEW)),
    Rule("/", (Role.NUMERATOR, When.LAST), (Role.DENOMINATOR, When.LAST), (Role.RESULT, None)),
)
#: What the array sums: products of two roles.
PRODUCTS = {
    frozenset({Role.OPERAND}): Role.SCORE,
    frozenset({Role.WEIGHT, Role.OPERAND}): Role.TILE_NUMERATOR,
}
#: What the array reduces over its rows.
REDUCTIONS = {
    ("max", Role.SCORE): Role.TILE_MAXIMUM,
    ("add", Role.WEIGHT): Role.TILE_SUM,
}
#: Roles that only an Einsum of its own can give, because the array computes them.
ON_ARRAY = {
    Role.SCORE: Operation.QK,
    Role.TILE_MAXIMUM: Operation.MAX,
    Role.WEIGHT: Operation.EXP,
    Role.TILE_SUM: Operation.SUM,
    Role.TILE_NUMERATOR: Operation.SLNV,
}
#: Indices of what the array computes: of the tile, of its row, of its column.
INDICES = {
    Role.SCORE: ("tile", "row", "column"),
    Role.WEIGHT: ("tile", "row", "column"),
    Role.TILE_MAXIMUM: ("tile", "column"),
    Role.TILE_SUM: ("tile", "column"),
}
#: Where the lanes start their states.
START = {Role.MAXIMUM: "-inf", Role.DENOMINATOR: "0", Role.NUMERATOR: "0"}

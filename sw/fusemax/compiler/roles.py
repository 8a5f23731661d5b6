"""What values are in attention on the array."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from .array_program import Operation

__all__ = ["ADDED", "ON_ARRAY", "SCALED", "Role", "Value", "When"]


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


#: Roles that only an Einsum of its own can give, because the array computes them.
ON_ARRAY = {
    Role.SCORE: Operation.QK,
    Role.TILE_MAXIMUM: Operation.MAX,
    Role.WEIGHT: Operation.EXP,
    Role.TILE_SUM: Operation.SUM,
    Role.TILE_NUMERATOR: Operation.SLNV,
}
SCALED = {Role.DENOMINATOR: Role.SCALED_DENOMINATOR, Role.NUMERATOR: Role.SCALED_NUMERATOR}
ADDED = {Role.SCALED_DENOMINATOR: Role.TILE_SUM, Role.SCALED_NUMERATOR: Role.TILE_NUMERATOR}


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

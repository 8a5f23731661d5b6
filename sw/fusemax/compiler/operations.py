"""What an Einsum can be on the machine: typed operations of the array and of its lanes.

The value of an expression is the operation that gives it. So an operation's operands are operations too, and what the machine
can do is which operation may follow on which (:mod:`.rules`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from ..cascade.kinds import Kind

__all__ = [
    "Accumulate",
    "Contract",
    "Divide",
    "Factor",
    "Header",
    "LaneOperation",
    "MachineOperation",
    "Operand",
    "Raw",
    "Rescaled",
    "RunningMaximum",
    "ScoreSum",
    "TileMaximum",
    "TileSum",
    "Unit",
    "Weigh",
    "WeightedSum",
]


class Unit(enum.Enum):
    """Part of the machine that evaluates an Einsum."""

    #: Loader and banks at the array's edges.
    EDGE = "edge"
    #: 2D array.
    ARRAY = "array"
    #: 1D array: one lane per column.
    LANE = "lane"


@dataclass(frozen=True)
class MachineOperation:
    """Something that a part of the machine does; ``text`` is how errors call what it gives."""

    text: ClassVar[str]
    unit: ClassVar[Unit] = Unit.ARRAY
    #: Kind of what it gives.
    kind: ClassVar[Kind] = Kind.COLUMN

    @property
    def name(self) -> str:
        """What errors call what it gives."""
        return self.text


@dataclass(frozen=True)
class LaneOperation(MachineOperation):
    """Something that a lane does, for its column."""

    unit: ClassVar[Unit] = Unit.LANE


@dataclass(frozen=True)
class Operand(MachineOperation):
    """An input, or another name for it."""

    text: ClassVar[str] = "an input"
    unit: ClassVar[Unit] = Unit.EDGE
    kind: ClassVar[Kind] = Kind.OPERAND


@dataclass(frozen=True)
class Contract(MachineOperation):
    """Scores: queries times keys, summed over the head dim."""

    text: ClassVar[str] = "scores"
    kind: ClassVar[Kind] = Kind.GRID


@dataclass(frozen=True)
class TileMaximum(MachineOperation):
    """Maximum of a tile's scores."""

    text: ClassVar[str] = "the maximum of a tile"


@dataclass(frozen=True)
class Weigh(MachineOperation):
    """Weights: a function of the scores.

    Members
    -------
    function
        Its name in :data:`fusemax.compiler.functions.WEIGHT_FUNCTIONS`.
    running
        It is of the score less the running maximum.
    scale, bias
        It is of scale · score + bias.
    """

    text: ClassVar[str] = "weights"
    kind: ClassVar[Kind] = Kind.GRID
    function: str = "exp"
    running: bool = False
    scale: float = 1.0
    bias: float = 0.0

    @property
    def name(self) -> str:
        """What errors call them."""
        return "weights exp(score - running maximum)" if self.running else f"weights {self.function}(score)"


@dataclass(frozen=True)
class TileSum(MachineOperation):
    """Sum of a tile's weights."""

    text: ClassVar[str] = "the sum of a tile's weights"


@dataclass(frozen=True)
class WeightedSum(MachineOperation):
    """Sum of a tile's weights times values."""

    text: ClassVar[str] = "the sum of a tile's weighted values"
    kind: ClassVar[Kind] = Kind.VECTOR


@dataclass(frozen=True)
class ScoreSum(MachineOperation):
    """Sum of a tile's weights times scores."""

    text: ClassVar[str] = "the sum of a tile's weighted scores"


@dataclass(frozen=True)
class RunningMaximum(LaneOperation):
    """Largest score so far."""

    text: ClassVar[str] = "the running maximum"
    kind: ClassVar[Kind] = Kind.STATE


@dataclass(frozen=True)
class Factor(LaneOperation):
    """exp(old - new running maximum), by which states are rescaled."""

    text: ClassVar[str] = "the factor exp(old - new running maximum)"


@dataclass(frozen=True)
class Accumulate(LaneOperation):
    """A state that a tile's sums are added to.

    Members
    -------
    sums
        What is added: :class:`TileSum`, :class:`WeightedSum` or :class:`ScoreSum`.
    rescaled
        The old state is multiplied by :class:`Factor` first.
    """

    text: ClassVar[str] = "a running sum"
    kind: ClassVar[Kind] = Kind.STATE
    sums: type[MachineOperation] = TileSum
    rescaled: bool = True

    @property
    def name(self) -> str:
        """What errors call it."""
        return {
            TileSum: "the running denominator",
            WeightedSum: "the running numerator",
            ScoreSum: "the running sum of scores",
        }[self.sums]


@dataclass(frozen=True)
class Rescaled(LaneOperation):
    """A state times the factor."""

    text: ClassVar[str] = "a running sum times the factor"
    sums: type[MachineOperation] = TileSum

    @property
    def name(self) -> str:
        """What errors call it."""
        return f"{Accumulate(self.sums).name} times the factor"


@dataclass(frozen=True)
class Divide(LaneOperation):
    """The result: last numerator by last denominator."""

    text: ClassVar[str] = "the result"
    kind: ClassVar[Kind] = Kind.RESULT


@dataclass(frozen=True)
class Raw(LaneOperation):
    """The result: the last numerator as it is."""

    text: ClassVar[str] = "the result, not divided"
    kind: ClassVar[Kind] = Kind.RESULT


@dataclass(frozen=True)
class Header(LaneOperation):
    """A denominator or a maximum, which a job can write in front of its rows."""

    text: ClassVar[str] = "what is written in front of a row"
    kind: ClassVar[Kind] = Kind.RESULT

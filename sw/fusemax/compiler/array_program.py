"""A cascade as the array runs it: which Einsum is which operation, on which part of the machine, and what depends on what."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

from ..cascade.einsum import Einsum
from ..cascade.expression import Expression, Reference, variables_of
from ..spec import Op

__all__ = ["ArrayProgram", "Dependence", "Operation", "Step", "Unit"]


class Unit(enum.Enum):
    """Part of the machine that evaluates an Einsum."""

    #: Loader and banks at the array's edges.
    EDGE = "edge"
    #: 2D array.
    ARRAY = "array"
    #: 1D array: one lane per column.
    LANE = "lane"


class Operation(enum.Enum):
    """What the array does for a tile."""

    QK = "QK"
    MASK = "MASK"
    MAX = "MAX"
    EXP = "EXP"
    SUM = "SUM"
    SLNV = "SLNV"

    @property
    def op(self) -> Op | None:
        """Main operation of the microword; none if the operation rides beside another one."""
        return Op[self.name] if self.name in Op.__members__ else None


@dataclass(frozen=True)
class Step:
    """An Einsum, where it is evaluated and, on the array, by which operation."""

    einsum: Einsum
    unit: Unit
    operation: Operation | None = None

    def __post_init__(self) -> None:
        if (self.unit is Unit.ARRAY) != (self.operation is not None):
            raise ValueError(
                f"an operation must be given for the array and for nothing else, not {self.operation} for {self.einsum}"
            )


@dataclass(frozen=True)
class Dependence:
    """``consumer`` reads what ``producer`` gives for the same tile, through the lanes or within the PE."""

    producer: Operation
    consumer: Operation
    through_lane: bool


@dataclass(frozen=True)
class ArrayProgram:
    """Einsums bound to the machine's parts.

    Members
    -------
    steps
        Einsums in the order of the cascade.
    tile_variable
        The variable that the machine iterates over in time, a tile at a time.
    space_variables
        The variables that lie in space, on the array's rows and columns.
    """

    steps: tuple[Step, ...]
    tile_variable: str
    space_variables: tuple[str, str]

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Operations of the array in the order that it issues them: a denominator before its numerators."""
        present = {step.operation for step in self.steps}
        return tuple(operation for operation in Operation if operation in present)

    def step(self, operation: Operation) -> Step:
        """The step that is bound to ``operation``."""
        return next(step for step in self.steps if step.operation is operation)

    def time_variable(self, operation: Operation) -> str | None:
        """Variable that an operation steps through, a slot each, for one tile; none if it takes a single slot."""
        variables = self.step(operation).einsum.ranks
        others = [v for v in variables if v not in (self.tile_variable, *self.space_variables)]
        return others[0] if others else None

    def slots(self, e: int, f: int) -> dict[Operation, int]:
        """Slots of every operation for one tile; ``e`` and ``f`` are the head dims of keys and values.

        Raises
        ------
        ValueError
            If both are one rank of the cascade, but differ.
        """
        if e != f and self.time_variable(Operation.QK) == self.time_variable(Operation.SLNV):
            rank = f"{self.time_variable(Operation.QK)}".upper()
            raise ValueError(f"head_dim and value_dim must be equal, as both are {rank} in the cascade, not {e} and {f}")
        sizes = {Operation.QK: e, Operation.SLNV: f}
        return {operation: sizes.get(operation, 1) for operation in self.operations}

    @cached_property
    def dependences(self) -> tuple[Dependence, ...]:
        """Flow dependences within a tile, lane Einsums looked through."""
        found: dict[Dependence, None] = {}
        for operation in self.operations:
            for producer, through_lane in self._producers(self.step(operation)):
                found[Dependence(producer, operation, through_lane)] = None
        return tuple(found)

    def _producers(self, consumer: Step) -> list[tuple[Operation, bool]]:
        """Array operations whose results ``consumer`` reads, with whether they come through a lane.

        A tensor at another index of the tile than the producer's result belongs to another tile: state, no dependence.
        """
        producers = []
        for operand in consumer.einsum.operands:
            for step in self.steps:
                result = step.einsum.result
                if result.tensor != operand.tensor or self._tile_index(result) != self._tile_index(operand):
                    continue
                if step.operation is not None:
                    producers.append((step.operation, False))
                elif step.unit is Unit.LANE:
                    producers += [(operation, True) for operation, _ in self._producers(step)]
        return producers

    def _tile_index(self, reference: Reference) -> Expression | None:
        return next((index for index in reference.indices if self.tile_variable in variables_of(index)), None)

    def __str__(self) -> str:
        width = max(len(str(step.einsum)) for step in self.steps)
        return "\n".join(
            f"{step.einsum!s:{width}}  {step.unit.value:5}  {step.operation.name if step.operation else ''}".rstrip()
            for step in self.steps
        )

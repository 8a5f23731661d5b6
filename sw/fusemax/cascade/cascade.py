"""A cascade of Einsums, bound to the machine's parts."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import cached_property

from ..spec import Op
from .einsum import Einsum

__all__ = ["Cascade", "Dependence", "Operation", "Step", "Unit"]


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
class Cascade:
    """A cascade for the array.

    Members
    -------
    name
        By which :func:`fusemax.compile` knows it.
    steps
        Einsums in order.
    tile_rank
        Rank that the machine iterates over in time, a tile at a time.
    space_ranks
        Ranks that lie in space, on the array's rows and columns.

    Raises
    ------
    ValueError
        If an operation is bound twice, or an array Einsum has more than one rank besides tile and space.
    """

    name: str
    steps: tuple[Step, ...]
    tile_rank: str
    space_ranks: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.operations)) != len(self.operations):
            raise ValueError(f"every operation of {self.name} must be bound once, not {[o.name for o in self.operations]}")
        for operation in self.operations:
            self.time_rank(operation)

    @cached_property
    def operations(self) -> tuple[Operation, ...]:
        """Operations of the array in the order of the Einsums."""
        return tuple(step.operation for step in self.steps if step.operation is not None)

    def step(self, operation: Operation) -> Step:
        """The step that is bound to ``operation``."""
        return next(step for step in self.steps if step.operation is operation)

    def time_rank(self, operation: Operation) -> str | None:
        """Rank that an operation steps through, a slot each, for one tile; none if it takes a single slot."""
        ranks = [rank for rank in self.step(operation).einsum.ranks if rank not in (self.tile_rank, *self.space_ranks)]
        if len(ranks) > 1:
            raise ValueError(f"{self.step(operation).einsum} must have one rank in time, not {', '.join(ranks)}")
        return ranks[0] if ranks else None

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

        Tensors with another index of ``tile_rank`` than the producer's result belong to another tile: state, no dependence.
        """
        producers = []
        for operand in consumer.einsum.operands:
            for step in self.steps:
                result = step.einsum.result
                if result.tensor != operand.tensor or self._tile_index(result.indices) != self._tile_index(operand.indices):
                    continue
                if step.operation is not None:
                    producers.append((step.operation, False))
                elif step.unit is Unit.LANE:
                    producers += [(operation, True) for operation, _ in self._producers(step)]
        return producers

    def _tile_index(self, indices: tuple[str, ...]) -> str | None:
        return next((index for index in indices if index.split("+")[0] == self.tile_rank), None)

    def __str__(self) -> str:
        width = max(len(str(step.einsum)) for step in self.steps)
        return "\n".join(
            f"{step.einsum!s:{width}}  {step.unit.value:5}  {step.operation.name if step.operation else ''}".rstrip()
            for step in self.steps
        )

"""A cascade as the array runs it: which Einsum is which operation, on which part of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from ..cascade.einsum import Einsum
from .operations import Contract, Divide, MachineOperation, ScoreSum, TileMaximum, Unit, Weigh, WeightedSum

__all__ = ["ArrayProgram", "Step"]


@dataclass(frozen=True)
class Step:
    """An Einsum, where it is evaluated, and what it is there."""

    einsum: Einsum
    unit: Unit
    operation: MachineOperation


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

    def step(self, operation: type[MachineOperation]) -> Step | None:
        """The step that is such an operation; none if there is none."""
        return next((step for step in self.steps if isinstance(step.operation, operation)), None)

    def time_variable(self, operation: type[MachineOperation]) -> str | None:
        """Variable that an operation steps through, a slot each, for one tile; none if it takes a single slot."""
        step = self.step(operation)
        variables = step.einsum.ranks if step else ()
        others = [v for v in variables if v not in (self.tile_variable, *self.space_variables)]
        return others[0] if others else None

    @cached_property
    def weigh(self) -> Weigh:
        """The function of the scores that the weights are; the scores themselves if no Einsum is one."""
        step = self.step(Weigh)
        return step.operation if step else Weigh("identity")  # type: ignore[return-value]

    @property
    def running_maximum(self) -> bool:
        """Weights are relative to the largest score so far."""
        return self.step(TileMaximum) is not None

    @property
    def divides(self) -> bool:
        """The result is divided by the denominator."""
        return self.step(Divide) is not None

    @property
    def sums_scores(self) -> bool:
        """Weights are multiplied by scores too."""
        return self.step(ScoreSum) is not None

    def check_dims(self, e: int, f: int) -> None:
        """Check the head dims of keys and values.

        Raises
        ------
        ValueError
            If both are one rank of the cascade, but differ.
        """
        if e != f and self.time_variable(Contract) == self.time_variable(WeightedSum):
            rank = f"{self.time_variable(Contract)}".upper()
            raise ValueError(f"head_dim and value_dim must be equal, as both are {rank} in the cascade, not {e} and {f}")

    def __str__(self) -> str:
        width = max(len(str(step.einsum)) for step in self.steps)
        return "\n".join(
            f"{step.einsum!s:{width}}  {step.unit.value:5}  {'' if step.unit is Unit.EDGE else step.operation.name}".rstrip()
            for step in self.steps
        )

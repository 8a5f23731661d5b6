"""What is known of a cascade while it is mapped, line by line."""

from __future__ import annotations

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.errors import Position, ReachError
from ..cascade.expression import Reference, index_text
from ..cascade.indices import Index, classify_all
from ..cascade.kinds import Tiles
from .array_program import ArrayProgram, Step
from .operations import MachineOperation, Operand, RunningMaximum, Unit
from .refusal import refusal
from .rules import Value

__all__ = ["Scope"]


class Scope:
    """What is known of a cascade so far.

    Members
    -------
    cascade : Cascade
        What is mapped.
    tiles : Tiles
        Variables of the tile and of the key within it.
    column : str or None
        Variable of the query within its tile, once the scores are found.
    operations : dict
        What gives each tensor that was read or written.
    steps : list
        Einsums with the part of the machine that evaluates them.
    initial : dict
        Einsum that starts each state.
    updated : set
        States that were written for the next tile.
    identity : Einsum or None
        An Einsum that sums the scores as weights.
    """

    def __init__(self, cascade: Cascade, tiles: Tiles) -> None:
        self.cascade = cascade
        self.tiles = tiles
        self.column: str | None = None
        self.operations: dict[str, MachineOperation] = dict.fromkeys(cascade.inputs, Operand())
        self.steps: list[Step] = []
        self.initial: dict[str, Einsum] = {}
        self.updated: set[str] = set()
        self.identity: Einsum | None = None

    def refusal(self, reason: str, at: Position | None) -> ReachError:
        """Make the error that says why the array cannot run the cascade."""
        return refusal(self.cascade, reason, at)

    def indices(self, reference: Reference) -> list[Index]:
        """Classify the indices of a tensor."""
        return classify_all(self.cascade, reference)

    def step_of(self, operation: type[MachineOperation]) -> Step | None:
        """The Einsum of the tile that is already such an operation of the array."""
        return next((step for step in self.steps if isinstance(step.operation, operation)), None)

    @property
    def maximum(self) -> str | None:
        """The state that is the running maximum."""
        return next((name for name in self.initial if isinstance(self.operations.get(name), RunningMaximum)), None)

    def give(self, einsum: Einsum, value: Value, unit: Unit | None = None) -> None:
        """Note what gives a result and who computes it.

        Its indices are variables, but that of a state's step, which was checked when the cascade was read.

        Raises
        ------
        ReachError
            If an index is something else.
        """
        for index in self.indices(einsum.result):
            state = einsum.result.tensor in self.initial and index.rank == self.tiles.tile.upper()
            if not state and (index.kind != "variable" or index.offset):
                raise self.refusal(f"{index_text(index.expression)} must be a variable alone", index.expression.at)
        self.operations[einsum.result.tensor] = value.operation
        self.steps.append(Step(einsum, unit or value.operation.unit, value.operation))

    def program(self) -> ArrayProgram:
        """Make the program, everything being known."""
        assert self.column is not None
        return ArrayProgram(tuple(self.steps), self.tiles.tile, (self.tiles.row, self.column))

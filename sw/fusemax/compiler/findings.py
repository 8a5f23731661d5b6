"""What is known of a cascade while it is recognised, line by line."""

from __future__ import annotations

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.errors import Position, ReachError
from ..cascade.expression import Reference, index_text
from ..cascade.indices import Index, classify_all
from .array_program import ArrayProgram, Operation, Step, Unit
from .refusal import refusal
from .roles import Role, Value

__all__ = ["Findings"]


class Findings:
    """What is known of a cascade so far.

    Members
    -------
    cascade : Cascade
        What is recognised.
    tile, row : str
        Variables of the tile and of the key within it.
    column : str or None
        Variable of the query within its tile, once the scores are found.
    roles : dict
        Role of each tensor that was read or written.
    steps : list
        Einsums with the part of the machine that evaluates them.
    bound : dict
        The Einsum of each operation of the array.
    initial : dict
        Einsum that starts each state.
    maximum : str or None
        The state that is the running maximum.
    updated : set
        States that were written for the next tile.
    """

    def __init__(self, cascade: Cascade) -> None:
        self.cascade = cascade
        self.tile = self.row = ""
        self.column: str | None = None
        self.roles: dict[str, Role] = dict.fromkeys(cascade.inputs, Role.OPERAND)
        self.steps: list[Step] = []
        self.bound: dict[Operation, Einsum] = {}
        self.initial: dict[str, Einsum] = {}
        self.maximum: str | None = None
        self.updated: set[str] = set()

    def refusal(self, reason: str, at: Position | None) -> ReachError:
        """Make the error that says why the array cannot run the cascade."""
        return refusal(self.cascade, reason, at)

    def indices(self, reference: Reference) -> list[Index]:
        """Classify the indices of a tensor."""
        return classify_all(self.cascade, reference)

    def give(self, einsum: Einsum, value: Value, unit: Unit, operation: Operation | None = None) -> None:
        """Note the role of a result and who computes it.

        Its indices are variables, but that of a state's step, which was checked when the cascade was read.

        Raises
        ------
        ReachError
            If an index is something else.
        """
        for index in self.indices(einsum.result):
            state = einsum.result.tensor in self.initial and index.rank == self.tile.upper()
            if not state and (index.kind != "variable" or index.offset):
                raise self.refusal(f"{index_text(index.expression)} must be a variable alone", index.expression.at)
        self.roles[einsum.result.tensor] = value.role
        self.steps.append(Step(einsum, unit, operation))

    def program(self) -> ArrayProgram:
        """Make the program, everything being known."""
        assert self.column is not None
        return ArrayProgram(tuple(self.steps), self.tile, (self.row, self.column))

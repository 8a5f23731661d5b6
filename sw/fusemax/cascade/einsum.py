"""Extended Einsums: one equation, with the reductions that it names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from .errors import Position
from .expression import Expression, Reference, variables_of, walk

__all__ = ["Einsum", "Function", "NamedReduction"]


@dataclass(frozen=True)
class NamedReduction:
    """``::max(m0)``: the reduction ``operation`` over the variables ``ranks``."""

    operation: str
    ranks: tuple[str, ...]
    at: Position | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"::{self.operation}({', '.join(self.ranks)})"


@dataclass(frozen=True)
class Einsum:
    """``result[indices] = expression ::reduction(ranks)``, evaluated for every value of its variables.

    Variables that are not on the left are reduced: first, by addition, those that no reduction names, then those that are
    named, in the order of the reductions.
    """

    result: Reference
    expression: Expression
    reductions: tuple[NamedReduction, ...] = ()
    at: Position | None = field(default=None, compare=False, repr=False)

    @cached_property
    def operands(self) -> tuple[Reference, ...]:
        """Tensors that are read, those within indices too, in the order of the text."""
        return tuple(self._operands())

    def _operands(self) -> Iterator[Reference]:
        for index in self.result.indices:
            yield from (node for node in walk(index) if isinstance(node, Reference))
        yield from (node for node in walk(self.expression) if isinstance(node, Reference))

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """Variables of the iteration space, those of the result first."""
        return variables_of(self.result, self.expression)

    @cached_property
    def reduced(self) -> tuple[str, ...]:
        """Variables that are not on the left."""
        return tuple(rank for rank in self.ranks if rank not in self.result.variables)

    @cached_property
    def summed(self) -> tuple[str, ...]:
        """Variables that are reduced by addition because no reduction names them."""
        named = {rank for reduction in self.reductions for rank in reduction.ranks}
        return tuple(rank for rank in self.reduced if rank not in named)

    def __str__(self) -> str:
        return " ".join([f"{self.result} = {self.expression}", *map(str, self.reductions)])


@dataclass(frozen=True)
class Function:
    """A map of the user's own, ``gelu(x) = x * ...``; one of two arguments may be a reduction too."""

    name: str
    parameters: tuple[str, ...]
    body: Expression
    at: Position | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.parameters)}) = {self.body}"

"""A cascade of Einsums: what its text says, with the tensors, ranks and states that follow from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from .einsum import Einsum, Function
from .errors import Position
from .yaml_reader import Node

__all__ = ["Alias", "Cascade", "Constant", "Declaration", "Iteration", "Split"]


@dataclass(frozen=True)
class Declaration:
    """A tensor and its ranks."""

    tensor: str
    ranks: tuple[str, ...]
    at: Position | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Split:
    """A rank in parts, the outermost first: coordinate m is m1*M0+m0."""

    rank: str
    parts: tuple[str, ...]
    at: Position | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Alias:
    """Another name for the coordinates of a rank, for Einsums that need two of them."""

    name: str
    rank: str
    at: Position | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Constant:
    """A number by name."""

    name: str
    value: float
    at: Position | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Iteration:
    """The rank that ``extended`` repeats over in order, and the shape at which it stops: ``m1: m1 >= M1``."""

    variable: str
    stop: str
    at: Position | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Cascade:
    """A cascade of Einsums.

    Members
    -------
    name
        Stem of its file; not part of its text.
    declaration
        Tensors in the order of the text.
    expressions
        Einsums before the iteration.
    initialization, extended, finally_
        Einsums at the start of the iteration, of every step, and after it.
    outputs
        Results that were declared to be read outside; empty if none were.
    extras
        Other sections (``mapping``, ``bindings``, ``format``, ``architecture``) as they stand.
    """

    declaration: tuple[Declaration, ...]
    expressions: tuple[Einsum, ...] = ()
    initialization: tuple[Einsum, ...] = ()
    extended: tuple[Einsum, ...] = ()
    finally_: tuple[Einsum, ...] = ()
    split: tuple[Split, ...] = ()
    alias: tuple[Alias, ...] = ()
    constants: tuple[Constant, ...] = ()
    functions: tuple[Function, ...] = ()
    iteration: Iteration | None = None
    outputs: tuple[str, ...] = ()
    extras: tuple[tuple[str, Node], ...] = ()
    name: str = field(default="cascade", compare=False)

    @property
    def einsums(self) -> tuple[Einsum, ...]:
        """All Einsums, in the order of evaluation."""
        return (*self.expressions, *self.initialization, *self.extended, *self.finally_)

    @cached_property
    def ranks_of(self) -> dict[str, tuple[str, ...]]:
        """Ranks of every tensor."""
        return {declaration.tensor: declaration.ranks for declaration in self.declaration}

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """Tensors that no Einsum writes."""
        written = {einsum.result.tensor for einsum in self.einsums}
        return tuple(tensor for tensor in self.ranks_of if tensor not in written)

    @cached_property
    def results(self) -> tuple[str, ...]:
        """Tensors that leave the cascade: ``outputs``, or else those that no other Einsum reads."""
        if self.outputs:
            return self.outputs
        read = {
            operand.tensor for einsum in self.einsums for operand in einsum.operands if operand.tensor != einsum.result.tensor
        }
        return tuple(tensor for tensor in self.ranks_of if tensor not in read and tensor not in self.inputs)

    @cached_property
    def ranks(self) -> tuple[str, ...]:
        """Ranks of tensors, their splits and aliases, in order of appearance."""
        found = [rank for ranks in self.ranks_of.values() for rank in ranks]
        found += [rank for split in self.split for rank in (split.rank, *split.parts)]
        found += [alias.name for alias in self.alias]
        found += [self.iteration.variable.upper()] if self.iteration else []
        return tuple(dict.fromkeys(found))

    @cached_property
    def iterative(self) -> frozenset[str]:
        """Tensors that carry state from one step to the next: those that are written at the start and in every step."""
        return frozenset(e.result.tensor for e in self.initialization) & frozenset(e.result.tensor for e in self.extended)

    def base(self, rank: str) -> str:
        """The rank whose coordinates ``rank`` counts: itself, or what it is an alias of."""
        names = {alias.name: alias.rank for alias in self.alias}
        if self.iteration and self.iteration.stop != self.iteration.variable.upper():
            names.setdefault(self.iteration.variable.upper(), self.iteration.stop)
        while rank in names:
            rank = names[rank]
        return rank

    def iteration_of(self, rank: str) -> bool:
        """Whether ``rank`` is only the iterative variable's name for another rank."""
        return self.iteration is not None and rank == self.iteration.variable.upper() != self.base(rank)

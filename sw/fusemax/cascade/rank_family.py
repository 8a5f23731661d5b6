"""A rank with its parts and other names, and how Einsums read tensors along it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .cascade import Cascade
from .einsum import Einsum
from .errors import CascadeError
from .expression import Reference
from .indices import Index, classify

__all__ = ["Access", "Family"]


@dataclass(frozen=True)
class Access:
    """How a tensor is read or written along the family.

    Members
    -------
    parts
        Parts of the rank that a variable runs over.
    constants
        Parts that a fixed coordinate is given for, with whether that is the first one.
    shifted
        A variable with an offset: ``m1+1``.
    gather
        An index that is itself read from a tensor, or another sum of variables: any element may be meant.
    crossed
        The rank is run over only by the name that is another rank in this Einsum: every element is meant, at each of the
        others.
    """

    parts: frozenset[str] = frozenset()
    constants: tuple[tuple[str, bool], ...] = ()
    shifted: bool = False
    gather: bool = False
    order: tuple[str, ...] = ()
    crossed: bool = False

    @property
    def aligned(self) -> bool:
        return bool(self.parts) and not self.final

    @property
    def whole(self) -> bool:
        """Whether every part of the rank has its index."""
        return self.parts | {part for part, _ in self.constants} == frozenset(self.order)

    @property
    def outermost(self) -> bool:
        """Whether the outermost part runs."""
        return self.order[0] in self.parts

    @property
    def every_element(self) -> bool:
        """Whether elements are visited one after the other, or any of them."""
        return self.gather or (self.aligned and self.whole)

    @property
    def final(self) -> bool:
        """Whether a fixed coordinate other than the first is meant, of the outermost part."""
        return any(part == self.order[0] and not first for part, first in self.constants)


@dataclass(frozen=True)
class Family:
    """The rank ``rank`` of ``cascade``, in its parts from outer to inner, and other names of it."""

    cascade: Cascade
    rank: str
    #: Names of the whole rank, if it is split or has no parts.
    wholes: frozenset[str]
    parts: tuple[str, ...]
    #: Whether the rank that is asked for is a part of a split one.
    of_split: str | None
    others: frozenset[str]

    @staticmethod
    def of(cascade: Cascade, rank: str, same: Mapping[str, str]) -> Family:
        """The family of ``rank``; ``same`` are other ranks that are the same sequence."""
        if rank not in cascade.ranks:
            hint = ""
            if rank in cascade.ranks_of:
                hint = f"; {rank} is a tensor, its ranks are {', '.join(cascade.ranks_of[rank]) or 'none'}"
            raise CascadeError(f"rank must be one of {', '.join(cascade.ranks)}, not {rank!r}{hint}", name=cascade.name)
        for name in same:
            if name not in cascade.ranks:
                raise CascadeError(f"rank must be one of {', '.join(cascade.ranks)}, not {name!r}", name=cascade.name)
        # Another name that tensors are declared with (X of W) is a rank of its own, as P is beside M.
        declared = any(rank in ranks for ranks in cascade.ranks_of.values()) and not cascade.iteration_of(rank)
        own = rank if declared else cascade.base(rank)
        split = next((split for split in cascade.split if split.rank == own), None)
        of_split = next((split.rank for split in cascade.split if own in split.parts), None)
        others = {r for r in cascade.ranks if r != own and cascade.base(r) == own and not cascade.iteration_of(r)}
        others |= {name for name, target in same.items() if target == rank}
        for name in list(others):
            inner = next((split for split in cascade.split if split.rank == name), None)
            if inner is not None:
                raise CascadeError(f"{name} must not be split to be the same as {rank}", name=cascade.name)
        parts = split.parts if split is not None else (own,)
        return Family(cascade, rank, frozenset({own}), parts, of_split, frozenset(others))

    @property
    def has_iteration(self) -> bool:
        """Whether the steps of the iteration go along this rank."""
        iteration = self.cascade.iteration
        names = {*self.wholes, *self.parts[:1], *self.others, self.of_split}
        if iteration is None or (self.of_split is not None and iteration.variable.upper() != self.rank):
            return False
        return bool({iteration.variable.upper(), self.cascade.base(iteration.stop)} & names)

    def in_tensor(self, ranks: tuple[str, ...]) -> bool:
        """Whether a tensor of these ranks has fibers of the family, whole ones."""
        names = {self.name(rank) for rank in ranks}
        return bool(names & (self.wholes | self.others)) or set(self.parts) <= names or self.of_split in names

    def name(self, rank: str) -> str:
        """A rank, the iterative name resolved."""
        return self.cascade.base(rank) if self.cascade.iteration_of(rank) else rank

    def own_variables(self, einsum: Einsum) -> set[str]:
        """Variables of the rank itself, or of its parts."""
        names = self.wholes | set(self.parts) | ({self.of_split} if self.of_split else set())
        return {variable for variable in einsum.ranks if self.name(variable.upper()) in names}

    def filter_variables(self, einsum: Einsum) -> set[str]:
        """Variables of other names of the rank that index a result along it."""
        ranks = self.cascade.ranks_of[einsum.result.tensor]
        found = set()
        for index, rank in zip(einsum.result.indices, ranks, strict=True):
            form = classify(self.cascade, index, rank)
            if form.part is not None and form.part.upper() in self.others:
                found.add(form.part)
        return found

    def other_variables(self, einsum: Einsum) -> set[str]:
        """Variables of other names of the rank."""
        return {variable for variable in einsum.ranks if self.name(variable.upper()) in self.others}

    def access(self, einsum: Einsum, reference: Reference, *, by_other_name: bool = False) -> Access:
        """How ``einsum`` reads or writes ``reference`` along the family.

        Where an Einsum runs over the rank and, by another name, over it once more (queries and keys of one sequence), one of
        the names is another rank: the other one or, with ``by_other_name``, the rank's own.
        """
        own = self.own_variables(einsum)
        parts: set[str] = set()
        constants: list[tuple[str, bool]] = []
        shifted = gather = crossed = False
        for index, rank in zip(reference.indices, self.cascade.ranks_of[reference.tensor], strict=True):
            form = classify(self.cascade, index, rank)
            named = self.name(rank)
            if named in self.wholes or named in self.others:
                covered = self.parts
            elif named in self.parts:
                covered = (named,)
            elif named == self.of_split:
                covered = self.inner(form)
            else:
                continue
            if form.kind == "gather" or (form.kind == "affine" and covered):
                gather = True
            elif form.kind == "constant":
                constants += [(part, form.constant == 0) for part in covered]
            elif form.kind == "split":
                crossed |= by_other_name
                if not by_other_name:
                    parts.update(covered)
            else:
                variable = form.parts[0]
                name = self.name(variable.upper())
                other = name in self.others or name not in (*self.wholes, *self.parts, self.of_split)
                if other != by_other_name and own:
                    crossed |= name in self.others or by_other_name
                    continue
                parts.update(covered)
                shifted |= form.offset != 0
        return Access(frozenset(parts), tuple(constants), shifted, gather, self.parts, crossed and not parts)

    def inner(self, form: Index) -> tuple[str, ...]:
        """What an index of the whole rank says about the part that is asked for."""
        if form.kind == "split":
            return tuple(part for part in self.parts if part.lower() in form.parts)
        return self.parts

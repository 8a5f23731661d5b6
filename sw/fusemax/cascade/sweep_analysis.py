"""The sweep in which each tensor of a cascade is there, along the fibers of a rank.

Every tensor gets the sweep in which it is there (its level) and when in that sweep: element by element, tile by tile, after a
prefix, or only after all elements. An Einsum that touches the fiber's elements and needs something that is there only after
all of them belongs to the next sweep. Running all Einsums of a level fused, in order, in one sweep shows that so many passes
suffice; that each level had to wait for all elements of the one before shows that fewer do not.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from .cascade import Cascade
from .einsum import Einsum
from .errors import CascadeError
from .expression import Binary, Call, Expression, Reference, Variable, walk
from .rank_family import Access, Family

__all__ = ["Barrier", "SweepAnalysis"]


class Kind(enum.IntEnum):
    """When in its sweep a tensor is there."""

    #: It does not depend on the fiber.
    FREE = 0
    #: Its element, when the fiber's element is visited.
    ELEMENT = 1
    #: Its element, when the fiber's tile was visited.
    TILE = 2
    #: What the elements up to this one give.
    PREFIX = 3
    #: After all elements.
    ALL = 4


@dataclass(frozen=True)
class State:
    """Level and kind of a tensor, whether it holds the fiber element by element, and who gave it."""

    level: int = 0
    kind: Kind = Kind.FREE
    full: bool = False


@dataclass(frozen=True)
class Barrier:
    """Why a pass is needed: ``reader`` reads ``tensors`` again and needs ``needed``, which waits for all of ``after``."""

    number: int
    after: Einsum
    reader: Einsum
    needed: str
    tensors: tuple[str, ...]
    rank: str

    def __str__(self) -> str:
        def line(einsum: Einsum) -> str:
            return f" (line {einsum.at.line})" if einsum.at else ""

        what = " and ".join(self.tensors)
        through = "" if self.needed == self.after.result.tensor else f"{self.needed} and so "
        reader, after = self.reader.result.tensor, self.after.result.tensor
        return (
            f"pass {self.number}: {reader}{line(self.reader)} reads {what} along {self.rank} again, because it needs "
            f"{through}{after}{line(self.after)}, which is complete only when every {self.rank.lower()} was visited"
        )


class SweepAnalysis:
    """Levels and kinds of a cascade's tensors along a family of ranks, found by iterating to a fixpoint.

    ``roots`` are the tensors whose fibers count: the inputs that have the rank if not given.
    """

    def __init__(self, cascade: Cascade, family: Family, roots: tuple[str, ...] | None = None) -> None:
        self.cascade = cascade
        self.family = family
        self.state: dict[str, State] = {}
        self.level: dict[int, int] = {}
        self.touching: set[int] = set()
        self.roots = self.find_roots() if roots is None else roots
        #: Whether every step of the iteration has fibers of its own: then what it gets from the step before is given.
        self.own_fibers = cascade.iteration is not None and not family.has_iteration
        #: Einsums (by identity) that go over the fibers by another name of the rank, and those that turned out not to.
        self.by_other_name: set[int] = set()
        self.by_own_name: set[int] = set()
        self.solve()

    def of(self, tensor: str) -> State:
        return self.state.get(tensor, State())

    def find_roots(self) -> tuple[str, ...]:
        """Inputs that have the rank; if there are none, the tensors that it first appears in."""
        found = tuple(tensor for tensor in self.cascade.inputs if self.family.in_tensor(self.cascade.ranks_of[tensor]))
        if found:
            return found
        dependent: set[str] = set()
        for einsum in self.cascade.einsums:
            tensor = einsum.result.tensor
            if {operand.tensor for operand in einsum.operands} & dependent:
                dependent.add(tensor)
            elif self.family.in_tensor(self.cascade.ranks_of[tensor]):
                dependent.add(tensor)
                found += (tensor,)
        return tuple(dict.fromkeys(found))

    def of_each_root(self) -> dict[str, SweepAnalysis]:
        """Analyse every root alone, the others taken as given."""
        return {root: SweepAnalysis(self.cascade, self.family, (root,)) for root in self.roots}

    def solve(self) -> None:
        """Levels to a fixpoint; tensors that are carried from step to step are read before they are written."""
        self.state = {root: State(1, Kind.ELEMENT, True) for root in self.roots}
        self.touching = set()
        for _ in range(4 * len(self.cascade.einsums) + 4):
            before = dict(self.state)
            for number, einsum in enumerate(self.cascade.einsums):
                if not self.choose_name(einsum):
                    self.solve()
                    return
                self.visit(number, einsum)
            if self.own_fibers and not self.has_own_fibers():
                self.own_fibers = False
                self.solve()
                return
            if self.state == before:
                return
        raise CascadeError(
            f"the passes over {self.family.rank} grow with the iteration: every step goes over the same fibers again and needs "
            "all of the step before",
            self.cascade.extended[0].at,
            self.cascade.name,
        )

    def has_own_fibers(self) -> bool:
        """Whether all elements that a step touches are of that step."""
        iteration = self.cascade.iteration
        assert iteration is not None
        return all(
            iteration.variable in operand.variables
            for einsum in self.cascade.extended
            for operand, access in self.accesses(einsum)
            if self.touches(operand, access)
        )

    def accesses(self, einsum: Einsum) -> list[tuple[Reference, Access]]:
        """Operands with how they are read along the family; not those that a step is given by the one before."""
        return [(operand, self.access(einsum, operand)) for operand in einsum.operands if not self.is_given(operand)]

    def access(self, einsum: Einsum, reference: Reference) -> Access:
        """How an Einsum reads or writes a tensor, by the name of the rank that it goes over the fibers by."""
        return self.family.access(einsum, reference, by_other_name=id(einsum) in self.by_other_name)

    def choose_name(self, einsum: Einsum) -> bool:
        """Find the name by which an Einsum with two names of the rank goes over its fibers; false if an earlier one was wrong.

        It is the rank's own if fibers are read by it, else the other one: ``Y[m] = X[n] * (n <= m)`` goes over X by n.
        """
        if id(einsum) in self.by_own_name or not (self.family.own_variables(einsum) and self.family.other_variables(einsum)):
            return True
        fibers = [o for o in einsum.operands if self.of(o.tensor).full and not self.is_given(o)]
        own = any(self.family.access(einsum, operand).every_element for operand in fibers)
        other = any(self.family.access(einsum, operand, by_other_name=True).every_element for operand in fibers)
        if other and not own:
            self.by_other_name.add(id(einsum))
        elif id(einsum) in self.by_other_name:
            # An operand that is carried from step to step was found to be a fiber only later.
            self.by_other_name.remove(id(einsum))
            self.by_own_name.add(id(einsum))
            return False
        return True

    def is_given(self, operand: Reference) -> bool:
        iteration = self.cascade.iteration
        if iteration is None or not self.own_fibers or operand.tensor not in self.cascade.iterative:
            return False
        return Variable(iteration.variable) in operand.indices

    def touches(self, reference: Reference, access: Access) -> bool:
        return self.of(reference.tensor).full and access.every_element

    def visit(self, number: int, einsum: Einsum) -> None:
        tensor = einsum.result.tensor
        accesses = self.accesses(einsum)
        touching = any(self.touches(*each) for each in accesses)
        level = int(touching)
        late = False
        for operand, access in accesses:
            state = self.of(operand.tensor)
            if state.kind is not Kind.FREE:
                waits = touching and self.waits(einsum, operand, access)
                level = max(level, state.level + waits)
        for operand, access in accesses:
            state = self.of(operand.tensor)
            late |= state.kind is not Kind.FREE and state.level == level and self.waits(einsum, operand, access)
        self.level[number] = level
        if touching:
            self.touching.add(number)
        kind = self.kind(einsum, accesses, level, touching, late)
        left = self.access(einsum, einsum.result)
        full = touching and left.aligned and left.whole
        if tensor in self.roots and level == 0:
            return
        old = self.of(tensor)
        if (level, kind) > (old.level, old.kind):
            self.state[tensor] = State(level, kind, old.full or full)
        elif full and not old.full:
            self.state[tensor] = replace(old, full=True)

    def waits(self, einsum: Einsum, operand: Reference, access: Access) -> bool:
        """Whether an operand is there only after all elements of its sweep."""
        if self.of(operand.tensor).kind is Kind.ALL or access.final:
            return True
        return access.crossed and operand.tensor not in self.roots and not self.is_behind(einsum, operand)

    def is_behind(self, einsum: Einsum, operand: Reference) -> bool:
        """Whether only elements up to the one that is visited are read: A[n] in where(n <= m, A[n], 0), for every m."""
        visiting, crossing = self.family.own_variables(einsum), self.family.other_variables(einsum)
        if id(einsum) in self.by_other_name:
            visiting, crossing = crossing, visiting
        return any(
            below in crossing and above in visiting and any(node is operand for node in walk(chosen))
            for below, above, chosen in _filters(einsum)
        )

    def kind(self, einsum: Einsum, accesses: list[tuple[Reference, Access]], level: int, touching: bool, late: bool) -> Kind:
        if level == 0:
            return Kind.FREE
        left = self.access(einsum, einsum.result)
        live = [
            (self.of(operand.tensor), access) for operand, access in accesses if self.of(operand.tensor).kind is not Kind.FREE
        ]
        if any(access.gather for state, access in live if state.full):
            return Kind.ALL
        if not touching and late:
            return Kind.ALL
        if not left.outermost:
            if self.is_prefix(einsum):
                return Kind.PREFIX
            if any(access.outermost for _, access in live):
                return Kind.ALL
            return max((Kind.PREFIX if state.kind is Kind.ELEMENT else state.kind for state, _ in live if state.level == level))
        if left.shifted or any(state.kind is Kind.PREFIX or access.shifted for state, access in live if state.level == level):
            return Kind.PREFIX
        return Kind.ELEMENT if left.whole else Kind.TILE

    def is_prefix(self, einsum: Einsum) -> bool:
        """Whether a sum is over the coordinates up to another one of the family: where(m < n, A[m], 0) for every n."""
        left, inner = self.family.filter_variables(einsum), self.family.own_variables(einsum)
        if id(einsum) in self.by_other_name:
            left, inner = inner & set(einsum.result.variables), self.family.other_variables(einsum)
        return any(below in inner and above in left for below, above, _ in _filters(einsum))

    # -- results ---------------------------------------------------------------------------------------------------

    @property
    def passes(self) -> int:
        return max((self.level[number] for number in self.touching), default=0)

    def chain(self) -> tuple[Barrier, ...]:
        """One barrier for the second and every further pass."""
        found: list[Barrier] = []
        einsums = self.cascade.einsums
        last = [number for number in sorted(self.touching) if self.level[number] == self.passes]
        number = last[0] if last else None
        while number is not None and self.level[number] > 1:
            einsum, level = einsums[number], self.level[number]
            accesses = self.accesses(einsum)
            waited = [
                operand
                for operand, access in accesses
                if number in self.touching
                and self.of(operand.tensor).level == level - 1
                and self.waits(einsum, operand, access)
                and self.of(operand.tensor).kind is not Kind.FREE
            ]
            if waited:
                again = tuple(dict.fromkeys(operand.tensor for operand, access in accesses if self.touches(operand, access)))
                needed = waited[0].tensor
                after = einsums[self.completed(needed, level - 1)]
                found.append(Barrier(level, after, einsum, needed, again, self.family.rank))
                number = self.source(needed, level - 1)
            else:
                number = self.earlier(einsum, level, number)
        return tuple(reversed(found))

    def earlier(self, einsum: Einsum, level: int, number: int) -> int | None:
        """An Einsum of the same level that this one reads, nearer to what made it so late."""
        for operand in einsum.operands:
            if self.of(operand.tensor).level == level:
                for other in self.writers(operand.tensor):
                    if other != number and self.level[other] == level:
                        return other
        return None

    def completed(self, tensor: str, level: int) -> int:
        """The Einsum that goes over all elements for ``tensor``, looked for through those that only wait for it too."""
        number = self.writers(tensor)[-1]
        for _ in self.cascade.einsums:
            accesses = self.accesses(self.cascade.einsums[number])
            waited = [
                o.tensor
                for o, a in accesses
                if self.of(o.tensor).level == level and self.waits(self.cascade.einsums[number], o, a)
            ]
            if not waited or number in self.touching:
                break
            number = self.writers(waited[0])[-1]
        return number

    def source(self, tensor: str, level: int) -> int:
        """The touching Einsum of ``level`` that ``tensor`` waits for, looked for through Einsums that touch nothing."""
        seen: set[str] = set()
        waiting = [tensor]
        fallback = self.writers(tensor)[-1]
        while waiting:
            name = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            for number in reversed(self.writers(name)):
                if number in self.touching and self.level[number] == level:
                    return number
                waiting += [o.tensor for o in self.cascade.einsums[number].operands if self.of(o.tensor).level == level]
        return fallback

    def writers(self, tensor: str) -> list[int]:
        return [number for number, einsum in enumerate(self.cascade.einsums) if einsum.result.tensor == tensor]

    def footprint(self, each: Mapping[str, SweepAnalysis]) -> tuple[str, ...]:
        """Tensors of which whole fibers live from one pass to a later one.

        An input does if its own fibers are passed more than once, and what is computed from inputs if one of theirs is: what
        comes only from inputs with a single pass is computed in the pass that reads it.
        """
        repeated = {root for root, alone in each.items() if alone.passes > 1}
        for einsum in self.cascade.einsums:
            if repeated & {operand.tensor for operand in einsum.operands} and einsum.result.tensor not in self.roots:
                repeated.add(einsum.result.tensor)
        found = []
        for tensor in self.cascade.ranks_of:
            if tensor not in repeated:
                continue
            analysis = each.get(tensor, self)
            first = self.of(tensor).level
            for number in analysis.touching:
                accesses = analysis.accesses(self.cascade.einsums[number])
                again = analysis.level[number] > first and tensor in {o.tensor for o, a in accesses if analysis.touches(o, a)}
                if again and tensor not in found:
                    found.append(tensor)
        return tuple(found)


def _filters(einsum: Einsum) -> Iterator[tuple[str, str, Expression]]:
    """Pairs of variables that count only in order, and what is read for them: m, n, A[m] of where(m < n, A[m], 0)."""
    for node in walk(einsum.expression):
        match node:
            case Call("where", (Binary("<" | "<=", Variable(a), Variable(b)), chosen, _)):
                yield a, b, chosen
            case Call("where", (Binary(">" | ">=", Variable(a), Variable(b)), chosen, _)):
                yield b, a, chosen

"""How often a cascade must go over the fibers of a rank.

A pass is one traversal of all elements of the fibers of a rank; one more is needed whenever an element must be visited again
after all others were, in every mapping of the cascade (FuseMax, section III). The number is a property of the cascade, not of
the function that it computes: what is counted is the least over all mappings of these Einsums, with state that does not
grow with the rank.

Every tensor gets the sweep in which it is there (its level) and when in that sweep: element by element, tile by tile, after a
prefix, or only after all elements. An Einsum that touches the fiber's elements and needs something that is there only after
all of them belongs to the next sweep. Running all Einsums of a level fused, in order, in one sweep shows that so many passes
suffice; that each level had to wait for all elements of the one before shows that fewer do not.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .cascade import Cascade
from .deferred_division import defer_division
from .einsum import Einsum
from .errors import CascadeError
from .expression import Binary, Call, Reference, Variable, walk
from .rank_family import Access, Family

__all__ = ["Barrier", "Passes", "count_passes", "ranks_to_count"]


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


@dataclass(frozen=True)
class Passes:
    """Passes over the fibers of a rank.

    Members
    -------
    rank
        The rank.
    passes, passes_deferred_division
        Of the cascade as it is, and with its divisions moved behind the sums that they can be moved behind.
    chain
        What forces the second and every further pass, in order.
    footprint
        Tensors of which a whole fiber must be kept, read again or computed again: their size grows with the rank.
    per_input
        Passes over the fibers of each input that has the rank, the others taken as given.
    """

    rank: str
    passes: int
    passes_deferred_division: int
    chain: tuple[Barrier, ...]
    footprint: tuple[str, ...]
    per_input: Mapping[str, int]

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "rank": self.rank,
            "passes": self.passes,
            "passes_deferred_division": self.passes_deferred_division,
            "chain": [str(barrier) for barrier in self.chain],
            "footprint": list(self.footprint),
        }


def count_passes(cascade: Cascade, rank: str, same: Mapping[str, str] | None = None) -> Passes:
    """Passes over the fibers of ``rank``.

    Parameters
    ----------
    cascade
        Any cascade.
    rank
        A rank of its tensors, or a split one: then elements are those of all parts together. The outer part alone (M1) counts
        tiles.
    same
        Other ranks that are the same sequence, as in {"P": "M"} for self-attention: their fibers count for ``rank`` too.

    Raises
    ------
    CascadeError
        If the cascade has no such rank.
    """
    analysis = _Analysis(cascade, Family.of(cascade, rank, same or {}))
    late = defer_division(cascade)
    deferred = _Analysis(late, Family.of(late, rank, same or {}))
    each = {root: _Analysis(cascade, analysis.family, (root,)) for root in analysis.roots}
    return Passes(
        rank,
        analysis.passes,
        min(analysis.passes, deferred.passes),
        analysis.chain(),
        analysis.footprint(each),
        {root: found.passes for root, found in each.items() if root in cascade.inputs},
    )


def ranks_to_count(cascade: Cascade) -> tuple[str, ...]:
    """Ranks of the tensors; not the names that an iteration gives another rank."""
    declared = {rank for ranks in cascade.ranks_of.values() for rank in ranks} | {split.rank for split in cascade.split}
    return tuple(rank for rank in cascade.ranks if rank in declared and not cascade.iteration_of(rank))


class _Analysis:
    def __init__(self, cascade: Cascade, family: Family, roots: tuple[str, ...] | None = None) -> None:
        self.cascade = cascade
        self.family = family
        self.state: dict[str, State] = {}
        self.level: dict[int, int] = {}
        self.touching: set[int] = set()
        self.roots = self.find_roots() if roots is None else roots
        #: Whether every step of the iteration has fibers of its own: then what it gets from the step before is given.
        self.own_fibers = cascade.iteration is not None and not family.has_iteration
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

    def solve(self) -> None:
        """Levels to a fixpoint; tensors that are carried from step to step are read before they are written."""
        self.state = {root: State(1, Kind.ELEMENT, True) for root in self.roots}
        self.touching = set()
        for _ in range(4 * len(self.cascade.einsums) + 4):
            before = dict(self.state)
            for number, einsum in enumerate(self.cascade.einsums):
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
        return [(operand, self.family.access(einsum, operand)) for operand in einsum.operands if not self.is_given(operand)]

    def is_given(self, operand: Reference) -> bool:
        iteration = self.cascade.iteration
        if iteration is None or not self.own_fibers or operand.tensor not in self.cascade.iterative:
            return False
        return Variable(iteration.variable) in operand.indices

    def touches(self, reference: Reference, access: Access) -> bool:
        return self.of(reference.tensor).full and (access.gather or (access.aligned and access.whole))

    def visit(self, number: int, einsum: Einsum) -> None:
        tensor = einsum.result.tensor
        accesses = self.accesses(einsum)
        touching = any(self.touches(*each) for each in accesses)
        level = int(touching)
        late = False
        for operand, access in accesses:
            state = self.of(operand.tensor)
            if state.kind is not Kind.FREE:
                waits = touching and self.waits(state, access)
                level = max(level, state.level + waits)
        for operand, access in accesses:
            state = self.of(operand.tensor)
            late |= state.kind is not Kind.FREE and state.level == level and self.waits(state, access)
        self.level[number] = level
        if touching:
            self.touching.add(number)
        kind = self.kind(einsum, accesses, level, touching, late)
        left = self.family.access(einsum, einsum.result)
        full = touching and left.aligned and left.whole
        if tensor in self.roots and level == 0:
            return
        old = self.of(tensor)
        if (level, kind) > (old.level, old.kind):
            self.state[tensor] = State(level, kind, old.full or full)
        elif full and not old.full:
            self.state[tensor] = replace(old, full=True)

    @staticmethod
    def waits(state: State, access: Access) -> bool:
        """Whether a value is there only after all elements of its sweep."""
        return state.kind is Kind.ALL or access.final

    def kind(self, einsum: Einsum, accesses: list[tuple[Reference, Access]], level: int, touching: bool, late: bool) -> Kind:
        if level == 0:
            return Kind.FREE
        left = self.family.access(einsum, einsum.result)
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
        left = self.family.filter_variables(einsum)
        inner = self.family.own_variables(einsum)
        for node in walk(einsum.expression):
            match node:
                case Call("where", (Binary("<" | "<=", Variable(a), Variable(b)), _, _)):
                    if a in inner and b in left:
                        return True
                case Call("where", (Binary(">" | ">=", Variable(a), Variable(b)), _, _)):
                    if b in inner and a in left:
                        return True
        return False

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
                and self.waits(self.of(operand.tensor), access)
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
            waited = [o.tensor for o, a in accesses if self.of(o.tensor).level == level and self.waits(self.of(o.tensor), a)]
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

    def footprint(self, each: Mapping[str, _Analysis]) -> tuple[str, ...]:
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

"""Iterations of a cascade as plans see them: states that are running sums, and what in front of a place is summed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..cascade.cascade import Alias, Cascade
from ..cascade.einsum import Einsum
from ..cascade.expression import Binary, Expression, Number, Reference, Variable
from ..cascade.indices import linear

__all__ = ["PrefixSum", "added_term", "starts_at_zero", "steps_of_host", "with_summed_variable"]


@dataclass(frozen=True)
class PrefixSum:
    """A state T[…, i+1] = T[…, i] + term[…, i] that the host does not have: sums of the term over a variable of its own.

    Members
    -------
    variables
        Index variables of the term, the iterative one among them.
    variable, stop
        The iterative one, and the shape at which it stops.
    summed
        The variable that the sum is over; it has the same coordinates.
    """

    variables: tuple[str, ...]
    variable: str
    stop: str
    summed: str

    def read(self, reference: Reference) -> tuple[Mapping[str, str], tuple[Expression, ...]] | None:
        """Names that the term's variables have where the state is read, and the condition on what is summed.

        T[…, i] is the sum over all j < i, T[…, i+1] that over j <= i, and T[…, I] that over all. None if it is read otherwise.
        """
        names: dict[str, str] = {}
        mask: tuple[Expression, ...] = ()
        for own, index in zip(self.variables, reference.indices, strict=True):
            if own != self.variable:
                if not isinstance(index, Variable):
                    return None
                names[own] = index.name
                continue
            names[own] = self.summed
            terms = dict(linear(index) or {})
            offset = terms.pop((), 0)
            if terms == {(self.stop,): 1} and not offset:
                continue
            if len(terms) != 1 or offset not in (0, 1):
                return None
            ((place, factor),) = terms.items()
            if len(place) != 1 or factor != 1 or not place[0].islower():
                return None
            mask = (Binary("<=" if offset else "<", Variable(self.summed), Variable(place[0])),)
        return names, mask


def added_term(einsum: Einsum, variable: str) -> Expression | None:
    """What a step adds to its state: of T[…, i+1] = T[…, i] + term, the term. None if the Einsum is another one."""
    if not isinstance(einsum.expression, Binary) or einsum.expression.operator != "+":
        return None
    at = [index for index in einsum.result.indices if not isinstance(index, Variable)]
    if len(at) != 1 or linear(at[0]) != {(variable,): 1, (): 1}:
        return None
    before = replace(
        einsum.result, indices=tuple(Variable(variable) if index in at else index for index in einsum.result.indices)
    )
    left, right = einsum.expression.left, einsum.expression.right
    term = right if left == before else left if right == before else None
    return None if term is None or einsum.reduced else term


def starts_at_zero(cascade: Cascade, tensor: str) -> bool:
    """Whether a state is 0 before the first step."""
    starts = [einsum.expression for einsum in cascade.initialization if einsum.result.tensor == tensor]
    return starts == [Number(0.0)]


def with_summed_variable(cascade: Cascade) -> tuple[Cascade, str]:
    """The cascade with one more name for the coordinates of its iterative rank, and the variable."""
    assert cascade.iteration is not None
    number = 0
    while f"{cascade.iteration.stop}{number}" in cascade.ranks:
        number += 1
    name = f"{cascade.iteration.stop}{number}"
    aliased = replace(cascade, alias=(*cascade.alias, Alias(name, cascade.iteration.stop)))
    return aliased, name.lower()


def steps_of_host(cascade: Cascade, is_hosts: Callable[[Einsum], bool]) -> tuple[list[Einsum], list[Einsum]]:
    """Einsums of a step that the host evaluates, and the others: those that are not its own, and what reads their results."""
    others: set[str] = set()
    count = -1
    while count != len(others):
        count = len(others)
        for einsum in cascade.extended:
            if not is_hosts(einsum) or any(operand.tensor in others for operand in einsum.operands):
                others.add(einsum.result.tensor)
    mine = [einsum for einsum in cascade.extended if einsum.result.tensor not in others]
    return mine, [einsum for einsum in cascade.extended if einsum.result.tensor in others]

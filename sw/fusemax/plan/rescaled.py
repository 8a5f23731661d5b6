"""States of a softmax that is worked out step by step: a running maximum, and sums that are rescaled by it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from ..cascade.cascade import Cascade, Iteration
from ..cascade.einsum import Einsum
from ..cascade.expression import (
    Binary,
    Call,
    Expression,
    Name,
    Number,
    Reference,
    Unary,
    Variable,
    factors,
    variables_of,
)
from .forms import Form, Forms, Term, Weight, rename

__all__ = ["RescaledStates"]


@dataclass
class RescaledStates:
    """Running maxima M[i+1] = max(M[i], x), and sums R[i+1] = term + exp(M[i] - M[i+1]) · R[i] from 0, of one iteration.

    What is left of a sum behind the last step is Σ_i term[i] · exp(M[i+1] - M[I]): with the term's own exponentials one weight,
    from which the maxima of the steps are gone.

    Members
    -------
    summed
        The variable that such a sum is over; it has the coordinates of the iterative one.
    """

    cascade: Cascade
    iteration: Iteration
    forms: Forms
    summed: str
    maxima: dict[str, Form] = field(default_factory=dict)
    _sums: list[tuple[Einsum, Form]] = field(default_factory=list, init=False)
    _written: list[Einsum] = field(default_factory=list, init=False)

    def take(self, einsum: Einsum, scores: Form | None) -> bool:
        """Take a state's Einsum, if it is of this kind; ``scores`` are what a maximum is over, None if it is none."""
        if scores is not None:
            self.maxima[einsum.result.tensor] = scores
            self._written.append(einsum)
            return True
        for term, factor in self._summands(einsum):
            maximum = self._rescales(self.forms.of(factor))
            if maximum is not None:
                behind, last = self._at(maximum, 1), self._at(maximum, None)
                back = Form((Term(weight=Weight("exp", (Term((behind,)), Term((Number(-1.0), last))))),))
                self._sums.append((einsum, self.forms.times(self.forms.of(term), back, einsum.at)))
                return True
        return False

    def maximum_of(self, einsum: Einsum) -> Expression | None:
        """What a running maximum takes in at a step; None if the state is none, or does not begin at minus infinity."""
        if not self._starts(einsum, -math.inf):
            return None
        match einsum.expression:
            case Call("max", (first, second)):
                before = self._at(einsum.result, 0)
                return second if first == before else first if second == before else None
        return None

    def read_otherwise(self) -> Reference | None:
        """A place where a state is read in another way than as the last one, or as above; None if there is none."""
        sums = {einsum.result.tensor for einsum, _ in self._sums}
        for einsum in self.cascade.extended:
            for operand in einsum.operands:
                if operand.tensor in sums - {einsum.result.tensor}:
                    return operand
        for einsum in self.cascade.finally_:
            for operand in einsum.operands:
                if operand.tensor in sums | self.maxima.keys() and Name(self.iteration.stop) not in operand.indices:
                    return operand
        return None

    def last(self) -> Iterator[tuple[Einsum, Form, bool]]:
        """The last state of each as an Einsum, its form, and whether it is a maximum, of which the form has the scores."""
        names = {self.iteration.variable: self.summed}
        for einsum in self._written:
            yield self._last(einsum), rename(self.maxima[einsum.result.tensor], names), True
        for einsum, form in self._sums:
            moved = rename(form, names)
            yield (
                self._last(einsum),
                Form(tuple(replace(t, summed=t.summed | {self.summed}) for t in moved.terms), moved.hidden),
                False,
            )

    # -- patterns ----------------------------------------------------------------------------------------------

    def _starts(self, einsum: Einsum, value: float) -> bool:
        starts = [start.expression for start in self.cascade.initialization if start.result.tensor == einsum.result.tensor]
        return len(starts) == 1 and _number(starts[0]) == value

    def _at(self, state: Reference, step: int | None) -> Reference:
        """The state before a step (0), behind it (1), or behind the last one (None)."""
        variable = Variable(self.iteration.variable)
        index: Expression = Name(self.iteration.stop)
        if step is not None:
            index = Binary("+", variable, Number(1.0)) if step else variable
        own = self.iteration.variable
        return replace(state, indices=tuple(index if own in variables_of(old) else old for old in state.indices))

    def _last(self, einsum: Einsum) -> Einsum:
        return replace(einsum, result=self._at(einsum.result, None), reductions=())

    def _summands(self, einsum: Einsum) -> Iterator[tuple[Expression, Expression]]:
        """Term and factor of R[i+1] = term + factor · R[i]."""
        if not isinstance(einsum.expression, Binary) or einsum.expression.operator != "+" or not self._starts(einsum, 0.0):
            return
        before = self._at(einsum.result, 0)
        sides = einsum.expression.left, einsum.expression.right
        for term, product in (sides, sides[::-1]):
            above, below = factors(product)
            if len(above) == 2 and before in above and not below:
                yield term, above[1 - above.index(before)]

    def _rescales(self, form: Form) -> Reference | None:
        """The running maximum M of exp(M[i] - M[i+1]); None if the form is another one."""
        if len(form.terms) != 1 or form.hidden or form.terms[0].factors or form.terms[0].weight is None:
            return None
        parts = {}
        for term in form.terms[0].weight.score:
            references = [factor for factor in term.factors if isinstance(factor, Reference)]
            if len(references) != 1 or len(references) + sum(isinstance(f, Number) for f in term.factors) != len(term.factors):
                return None
            parts[references[0]] = math.prod(factor.value for factor in term.factors if isinstance(factor, Number))
        for name in self.maxima:
            found = [reference for reference in parts if reference.tensor == name]
            if found and parts == {self._at(found[0], 0): 1.0, self._at(found[0], 1): -1.0}:
                return found[0]
        return None


def _number(expression: Expression) -> float:
    match expression:
        case Number(value):
            return value
        case Unary("-", Number(value)):
            return -value
    return math.nan

"""What a tensor that never leaves the array is made of: sums of products, with weights that are functions of scores.

A tensor with a number for every query and key is too large for the host. :class:`Forms` writes it in terms of tensors that the
host has: Σ over terms of factors · g(score), where the score is such a sum too. ``exp`` of a sum of scores times ``exp`` of
another one is one weight, so a maximum that is taken off and put back is gone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..cascade.builtins import BINARY
from ..cascade.cascade import Cascade
from ..cascade.errors import Position, ReachError
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
    map_expression,
    variables_of,
    walk,
)
from .loops import PrefixSum

__all__ = ["WEIGHTS", "Form", "Forms", "Term", "Weight", "product_of"]

#: Functions of a score that are a weight of the array, by the name that Einsums have for them. All are 0 for a score of minus
#: infinity, so that a mask may be written as one.
WEIGHTS = ("exp", "sigmoid", "elu1", "relu")


@dataclass(frozen=True)
class Weight:
    """A function of a score; ``identity`` is the score itself."""

    function: str
    score: tuple[Term, ...]


@dataclass(frozen=True)
class Term:
    """A product, summed over some variables, and 0 where the mask does not hold.

    Members
    -------
    factors
        Expressions of tensors that the host has.
    weight
        The one factor that only the array can have, if there is one.
    summed
        Variables that are summed over, but for those within the weight.
    mask
        Conditions on coordinates that must all hold.
    """

    factors: tuple[Expression, ...] = ()
    weight: Weight | None = None
    summed: frozenset[str] = frozenset()
    mask: tuple[Expression, ...] = ()

    @property
    def variables(self) -> frozenset[str]:
        """Variables of the factors."""
        return frozenset(variables_of(*self.factors))


@dataclass(frozen=True)
class Form:
    """A sum of terms; minus infinity where one of the conditions ``hidden`` does not hold."""

    terms: tuple[Term, ...]
    hidden: tuple[Expression, ...] = ()


def rename(form: Form, names: Mapping[str, str]) -> Form:
    """The same with other variables."""

    def expression(node: Expression) -> Expression:
        return map_expression(lambda n: replace(n, name=names.get(n.name, n.name)) if isinstance(n, Variable) else n, node)

    def term(old: Term) -> Term:
        weight = old.weight and Weight(old.weight.function, tuple(map(term, old.weight.score)))
        summed = frozenset(names.get(name, name) for name in old.summed)
        return Term(tuple(map(expression, old.factors)), weight, summed, tuple(map(expression, old.mask)))

    return Form(tuple(map(term, form.terms)), tuple(map(expression, form.hidden)))


def product_of(expression: Expression) -> list[Expression]:
    """Factors of an expression; those that it divides by as their inverses."""
    above, below = factors(expression)
    return [*above, *map(_reciprocal, below)]


class Forms:
    """Forms of expressions of a cascade.

    Parameters
    ----------
    cascade
        Names the cascade in errors; its functions are put in place.
    known
        Form and index variables of every tensor that the host does not have.
    host_has
        Whether the host may have a tensor of these variables.
    """

    def __init__(
        self,
        cascade: Cascade,
        known: Mapping[str, tuple[tuple[str, ...], Form]],
        host_has: Callable[[frozenset[str]], bool],
    ) -> None:
        self._cascade, self._known, self._host_has = cascade, known, host_has
        self._constants = {constant.name: constant.value for constant in cascade.constants}
        self._functions = {function.name: function for function in cascade.functions}
        #: Those of ``known`` that are running sums; their forms are of what is summed.
        self.prefixes: dict[str, PrefixSum] = {}

    def refuse(self, reason: str, at: Position | None) -> ReachError:
        return ReachError(f"no plan for this: {reason}", at, self._cascade.name)

    def of(self, node: Expression, arguments: Mapping[str, Form] | None = None) -> Form:
        """The form of an expression; ``arguments`` are those of the function that it is the body of.

        Raises
        ------
        ReachError
            If it has none; names the place.
        """
        if arguments is not None and isinstance(node, Variable):
            return arguments[node.name]
        number = self._constant(node)
        if number is not None:
            return Form((Term((Number(number, at=node.at),)),))
        if arguments is None and self._is_plain(node):
            return Form((Term((node,)),))
        match node:
            case Name():
                return Form((Term((node,)),))
            case Reference(name) if name in self.prefixes:
                return self._prefix(node, self.prefixes[name])
            case Reference(name, indices) if name in self._known:
                own, form = self._known[name]
                if not all(isinstance(index, Variable) for index in indices):
                    raise self.refuse(f"{node} picks out some of a tensor that only the array has", node.at)
                return rename(
                    form, dict(zip(own, (index.name for index in indices if isinstance(index, Variable)), strict=True))
                )
            case Unary("-", operand):
                return self._times(Form((Term((Number(-1.0),)),)), self.of(operand, arguments), node.at)
            case Binary("+" | "-", left, right):
                second = right if node.operator == "+" else Unary("-", right, at=right.at)
                first, second_form = self.of(left, arguments), self.of(second, arguments)
                return Form(first.terms + second_form.terms, _joined(first.hidden, second_form.hidden))
            case Binary("*", left, right):
                return self._times(self.of(left, arguments), self.of(right, arguments), node.at)
            case Binary("/", left, right):
                return self._times(self.of(left, arguments), self._inverse(self.of(right, arguments), right), node.at)
            case Call(name, given):
                return self._call(name, [*given], node, arguments)
        raise self.refuse(f"{node} has a number for every query and key, and the array has no operation for it", node.at)

    def _prefix(self, node: Reference, prefix: PrefixSum) -> Form:
        found = prefix.read(node)
        if found is None:
            raise self.refuse(f"{node} is neither the state before a step, nor behind it, nor the last one", node.at)
        names, mask = found
        form = rename(self._known[node.tensor][1], names)
        summed = frozenset((prefix.summed,))
        return Form(tuple(replace(t, summed=t.summed | summed, mask=_joined(mask, t.mask)) for t in form.terms))

    def _constant(self, node: Expression) -> float | None:
        """Value of an expression of numbers and constants."""
        match node:
            case Number(value):
                return value
            case Name(name):
                return self._constants.get(name)
            case Unary("-", operand):
                value = self._constant(operand)
                return None if value is None else -value
            case Binary("+" | "-" | "*" | "/" | "**", left, right):
                values = [self._constant(left), self._constant(right)]
                if None not in values:
                    with np.errstate(all="ignore"):
                        return float(BINARY[node.operator](*map(np.float64, values)))
        return None

    def _is_plain(self, node: Expression) -> bool:
        """Whether the host can have the values of the whole expression."""
        tensors = {part.tensor for part in walk(node) if isinstance(part, Reference)}
        if any(tensor in self._known for tensor in tensors):
            return False
        return not isinstance(node, Binary | Unary | Call) or self._host_has(frozenset(variables_of(node)))

    def _times(self, left: Form, right: Form, at: Position | None) -> Form:
        for one, other in ((left, right), (right, left)):
            if one.hidden and not all(set(one.hidden) <= set(term.mask) for term in other.terms):
                if all(_number(term) > 0 for term in other.terms):
                    continue
                raise self.refuse("a factor is minus infinity in places that are not left out", at)
        hidden = left.hidden + right.hidden
        keep = tuple(c for c in hidden if not any(c in t.mask for f in (left, right) for t in f.terms))
        return Form(tuple(self._product(a, b, at) for a in left.terms for b in right.terms), keep)

    def _product(self, left: Term, right: Term, at: Position | None) -> Term:
        weight = left.weight or right.weight
        if left.weight and right.weight:
            if left.weight.function != "exp" or right.weight.function != "exp":
                raise self.refuse("a product of two weights that are not exponentials", at)
            weight = Weight("exp", left.weight.score + right.weight.score)
        if left.summed & right.summed:
            raise self.refuse(f"a product of two sums over {', '.join(sorted(left.summed & right.summed))}", at)
        mask = _joined(left.mask, right.mask)
        return Term(left.factors + right.factors, weight, left.summed | right.summed, mask)

    def _inverse(self, form: Form, node: Expression) -> Form:
        if len(form.terms) == 1 and not form.hidden and not form.terms[0].mask and not form.terms[0].summed:
            term = form.terms[0]
            if term.weight is None or term.weight.function == "exp":
                weight = term.weight and Weight("exp", tuple(_scaled(part, -1.0) for part in term.weight.score))
                return Form((Term(tuple(_reciprocal(factor) for factor in term.factors), weight),))
        raise self.refuse(f"division by {node}, which has a number for every query and key", node.at)

    def _call(self, name: str, given: list[Expression], node: Call, arguments: Mapping[str, Form] | None) -> Form:
        if name in self._functions:
            function = self._functions[name]
            values = [self.of(argument, arguments) for argument in given]
            return self.of(function.body, dict(zip(function.parameters, values, strict=True)))
        if name == "where":
            return self._where(given, node, arguments)
        if name == "exp2":
            score = self._times(Form((Term((Number(math.log(2)),)),)), self.of(given[0], arguments), node.at)
            return self._weight("exp", score, node)
        if name in WEIGHTS:
            return self._weight(name, self.of(given[0], arguments), node)
        if name == "log":
            return self._log(self.of(given[0], arguments), node)
        raise self.refuse(f"{name} of a number for every query and key; weights are {', '.join(WEIGHTS)}", node.at)

    def _weight(self, name: str, score: Form, node: Call) -> Form:
        if any(term.weight is not None or term.mask for term in score.terms):
            raise self.refuse(f"{name} of a score with weights in it", node.at)
        return Form((Term(weight=Weight(name, score.terms), mask=score.hidden),))

    def _log(self, form: Form, node: Call) -> Form:
        if len(form.terms) == 1:
            (term,) = form.terms
            if term.weight is not None and term.weight.function == "exp" and not term.summed:
                logs = tuple(Term((Call("log", (factor,), at=factor.at),)) for factor in term.factors)
                return Form(term.weight.score + logs, term.mask)
        raise self.refuse("the logarithm of something that is not one exponential", node.at)

    def _where(self, given: list[Expression], node: Call, arguments: Mapping[str, Form] | None) -> Form:
        condition, yes, no = given
        chosen, other = self.of(yes, arguments), self.of(no, arguments)
        if self._host_has(frozenset(variables_of(condition))) and self._is_plain(condition):
            if chosen.hidden or other.hidden:
                raise self.refuse("minus infinity where a tensor says so", node.at)
            terms = [(chosen, (1.0, 0.0)), (other, (0.0, 1.0))]
            picked = [
                self._times(
                    Form((Term((Call("where", (condition, *map(Number, numbers)), at=node.at),)),)), form, node.at
                ).terms
                for form, numbers in terms
                if not all(_number(term) == 0 for term in form.terms)
            ]
            return Form(sum(picked, ()))
        if other.terms == (Term((Number(-math.inf),)),):
            return Form(chosen.terms, _joined(chosen.hidden, (condition,)))
        if all(_number(term) == 0 for term in other.terms):
            return Form(tuple(replace(term, mask=_joined(term.mask, (condition,))) for term in chosen.terms), chosen.hidden)
        raise self.refuse("a mask whose other value is neither 0 nor -inf", node.at)


def _joined(left: tuple[Expression, ...], right: tuple[Expression, ...]) -> tuple[Expression, ...]:
    return (*left, *(condition for condition in right if condition not in left))


def _reciprocal(factor: Expression) -> Expression:
    if isinstance(factor, Number) and factor.value:
        return Number(1 / factor.value, at=factor.at)
    return Binary("/", Number(1.0), factor, at=factor.at)


def _scaled(term: Term, factor: float) -> Term:
    return replace(term, factors=(Number(factor), *term.factors))


def _number(term: Term) -> float:
    """Value of a term that is a number; not a number if it is something else."""
    if term.weight is None and all(isinstance(factor, Number) for factor in term.factors):
        return math.prod(factor.value for factor in term.factors if isinstance(factor, Number))
    return math.nan

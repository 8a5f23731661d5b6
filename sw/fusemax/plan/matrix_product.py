"""Matrix products among the sums of a cascade, and products of three, whose weights are the scores themselves."""

from __future__ import annotations

from dataclasses import replace

from ..cascade.cascade import Cascade
from ..cascade.einsum import Einsum
from ..cascade.expression import Expression, variables_of
from .forms import Term, Weight, product_of
from .plan import Product

__all__ = ["HEAD_DIMS", "matrix_product", "product_of_three"]

#: Ranks that are head dims; their parts and aliases are too.
HEAD_DIMS = ("D", "E", "F", "O")


def matrix_product(einsum: Einsum, term: Term) -> Product | None:
    """Find the two matrices of a sum over one rank, if it is a product of two.

    Parameters
    ----------
    einsum
        The Einsum whose result it is.
    term
        Its only term, without a weight or a mask.
    """
    left = einsum.result.variables
    sides: dict[bool, list[Expression]] = {True: [], False: []}
    inner = tuple(sorted(term.summed))
    free = [frozenset(variables_of(factor)) - term.summed for factor in term.factors]
    matrices = [own for own, factor in zip(free, term.factors, strict=True) if frozenset(variables_of(factor)) & term.summed]
    batch = frozenset.intersection(*matrices) if len(matrices) > 1 else frozenset[str]()
    first: frozenset[str] = frozenset()
    second: frozenset[str] = frozenset()
    for own in (f - batch for f in free):
        if own and (not first or own & first):
            first |= own
        elif own:
            second |= own
    if not first or not second or first & second:
        return None
    for factor in term.factors:
        own = frozenset(variables_of(factor)) - term.summed - batch
        if own & first and own & second:
            return None
        sides[bool(own & second) is False].append(factor)
    order = {variable: place for place, variable in enumerate(left)}
    if not (batch | first | second) <= order.keys():
        return None
    batch_order, first_order, second_order = (tuple(sorted(group, key=order.__getitem__)) for group in (batch, first, second))
    return Product(einsum, tuple(sides[True]), tuple(sides[False]), batch_order, first_order, second_order, inner)


def product_of_three(cascade: Cascade, term: Term, left: tuple[str, ...]) -> tuple[Weight, Term] | None:
    """A term of queries, keys and values: queries and keys over one variable are the score, the rest are values.

    Parameters
    ----------
    cascade
        Says what its ranks are.
    term
        Without a weight.
    left
        Variables of the result.

    Returns
    -------
    The weight, and the term without the score's factors; None if it is no such product.
    """
    keys = {v for v in term.summed if cascade.base(v.upper()) not in HEAD_DIMS}
    inner = term.summed - keys
    # What is a number for each query stays out of the scores, which all have one fixed point.
    pieces = [piece for factor in term.factors for piece in product_of(factor)]
    score = [f for f in pieces if frozenset(variables_of(f)) & inner]
    rest = [f for f in pieces if not frozenset(variables_of(f)) & inner]
    if not score or not inner or not keys or not any(frozenset(variables_of(f)) & frozenset(left) for f in score):
        return None
    weight = Weight("identity", (Term(tuple(score), summed=frozenset(inner)),))
    return weight, replace(term, factors=tuple(rest), summed=frozenset(keys))

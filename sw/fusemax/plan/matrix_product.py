"""Matrix products among the sums of a cascade."""

from __future__ import annotations

from ..cascade.einsum import Einsum
from ..cascade.expression import Expression, variables_of
from .forms import Term
from .plan import Product

__all__ = ["matrix_product"]


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

"""Indices, terms and reductions of an Einsum."""

from __future__ import annotations

from ..builtins import REDUCTIONS
from ..cascade import Cascade
from ..einsum import Einsum, NamedReduction
from ..errors import CascadeError
from ..expression import Binary, Expression, Reference, Variable, index_text, variables_of, walk
from ..indices import classify_all
from .names import check_node, unknown

__all__ = ["check_einsum"]


def check_einsum(cascade: Cascade, einsum: Einsum) -> None:
    """Check the indices of an Einsum, the names of its expression, and what it reduces."""
    for reference in (einsum.result, *einsum.operands):
        _check_indices(cascade, reference)
    for index in classify_all(cascade, einsum.result):
        if index.kind in ("gather", "affine"):
            raise CascadeError(
                "expected a variable, a number, variable+number or the split of a rank on the left, "
                f"found {index_text(index.expression)}",
                index.expression.at,
            )
    for node in walk(einsum.expression):
        check_node(cascade, node)
    for variable in einsum.ranks:
        if variable.upper() not in cascade.ranks:
            where = next(
                node.at
                for expression in (einsum.result, einsum.expression)
                for node in walk(expression)
                if isinstance(node, Variable) and node.name == variable
            )
            raise unknown("the lower-case name of a rank", variable, [r.lower() for r in cascade.ranks], where)
    iterating = cascade.iteration is not None and einsum in cascade.extended
    iterated = {cascade.iteration.variable} if cascade.iteration and iterating else set()
    for reduction in einsum.reductions:
        _check_reduction(cascade, einsum, reduction, iterated)
    _check_terms(einsum, einsum.expression)
    if iterated & set(einsum.reduced):
        raise CascadeError(f"expected the iterative variable {', '.join(iterated)} on the left", einsum.at)


def _check_indices(cascade: Cascade, reference: Reference) -> None:
    """Every index must be one of the rank that the tensor is declared with there."""
    for index in classify_all(cascade, reference):
        if index.wrong is not None:
            raise CascadeError(
                f"expected an index of rank {index.rank} of {reference.tensor} ({index.wrong}), "
                f"found {index_text(index.expression)}",
                index.expression.at,
            )


def _check_terms(einsum: Einsum, expression: Expression) -> None:
    """A sum is over the whole right side: a term that does not depend on what is summed over would be added many times."""
    if isinstance(expression, Binary) and expression.operator in ("+", "-"):
        _check_terms(einsum, expression.left)
        _check_terms(einsum, expression.right)
    elif expression is not einsum.expression:
        for variable in einsum.summed:
            if variable not in variables_of(expression):
                raise CascadeError(
                    f"{expression} does not depend on {variable}, which the whole right side is summed over, so it would "
                    f"be added {variable.upper()} times; give the sum over {variable} an Einsum of its own",
                    expression.at or einsum.at,
                )


def _check_reduction(cascade: Cascade, einsum: Einsum, reduction: NamedReduction, iterated: set[str]) -> None:
    """A reduction must be known, and be over variables that only the right side has."""
    functions = {function.name: len(function.parameters) for function in cascade.functions}
    own = functions.get(reduction.operation)
    if own is None and reduction.operation not in REDUCTIONS:
        known = [*REDUCTIONS, *(name for name, count in functions.items() if count == 2)]
        raise unknown("a reduction", reduction.operation, known, reduction.at)
    if own is not None and own != 2:
        raise CascadeError(f"expected a function of two arguments to reduce with, found {reduction.operation}", reduction.at)
    ranks = reduction.ranks
    if own is None and REDUCTIONS[reduction.operation].new_rank:
        if len(ranks) != 2 or ranks[1] not in einsum.result.variables:
            raise CascadeError(
                f"expected {reduction.operation}(reduced, made) with the made variable on the left", reduction.at
            )
        ranks = ranks[:1]
    elif own is None and reduction.operation in ("argmax", "argmin") and len(ranks) != 1:
        raise CascadeError(f"expected one variable of {reduction.operation}", reduction.at)
    for variable in ranks:
        if variable not in variables_of(einsum.expression):
            raise unknown("a variable of the expression", variable, variables_of(einsum.expression), reduction.at)
        if variable in einsum.result.variables or variable in iterated:
            raise CascadeError(f"{variable} is on the left and cannot be reduced", reduction.at)
        if sum(variable in other.ranks for other in einsum.reductions) > 1:
            raise CascadeError(f"expected {variable} to be reduced once", reduction.at)

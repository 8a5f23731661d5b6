"""Roles of Einsums that reduce: what the array does over the head dim and over its rows."""

from __future__ import annotations

from ..cascade.einsum import Einsum
from ..cascade.expression import Binary, Expression, Reference
from .findings import Findings
from .roles import INDICES, PRODUCTS, REDUCTIONS, Role, Value
from .values import value_of, values_of

__all__ = ["check_indices", "value_of_reduction"]


def value_of_reduction(found: Findings, einsum: Einsum) -> Value:
    """Find the role of an Einsum that reduces; scores also say which variable the columns are.

    Raises
    ------
    ReachError
        If the array does not reduce so; names the line.
    """
    named = {reduction.operation for reduction in einsum.reductions}
    by_maximum = "max" in named
    if by_maximum and (len(named) > 1 or einsum.summed):
        raise found.refusal("one Einsum can only add or only take the maximum", einsum.at)
    expression = einsum.expression
    if isinstance(expression, Binary) and expression.operator == "*" and not by_maximum:
        role = _product(found, einsum, expression.left, expression.right)
    else:
        value = value_of(found, expression)
        reduced = REDUCTIONS.get(("max" if by_maximum else "add", value.role))
        if reduced is None:
            what = "takes the maximum of scores" if by_maximum else "sums weights"
            raise found.refusal(f"the array {what} over its rows, not of {value.role.value}", expression.at)
        role = reduced
    if role is not Role.SCORE and einsum.reduced != (found.row,):
        raise found.refusal(f"{role.value} must be over {found.row} alone, not over {', '.join(einsum.reduced)}", einsum.at)
    return Value(role)


def _product(found: Findings, einsum: Einsum, left: Expression, right: Expression) -> Role:
    """Role of a sum of products."""
    a, b = values_of(found, "*", left, right)
    role = PRODUCTS.get(frozenset({a.role, b.role}))
    if role is None:
        raise found.refusal(
            f"the array sums queries times keys and weights times values, not {a.role.value} times {b.role.value}",
            einsum.expression.at,
        )
    if role is Role.SCORE:
        found.column = _column_of_scores(found, einsum, left, right)
    return role


def _column_of_scores(found: Findings, einsum: Einsum, left: Expression, right: Expression) -> str:
    """The queries' variable in queries times keys, which is summed over one variable."""
    if len(einsum.reduced) != 1 or einsum.reduced[0] in (found.row, found.tile):
        raise found.refusal(f"scores must be a sum over one head dim, not over {', '.join(einsum.reduced)}", einsum.at)
    (dim,) = einsum.reduced
    assert isinstance(left, Reference) and isinstance(right, Reference)
    keys, queries = (left, right) if found.row in left.variables else (right, left)
    if set(keys.variables) != {dim, found.row, found.tile} or len(queries.variables) != 2 or dim not in queries.variables:
        raise found.refusal(
            f"scores must be queries [{dim}, p] times keys [{dim}, {found.tile}, {found.row}], not {einsum.expression}",
            einsum.at,
        )
    return next(variable for variable in queries.variables if variable != dim)


def check_indices(found: Findings, einsum: Einsum, role: Role) -> None:
    """Check the indices on the left, which say where in the array a result is.

    Raises
    ------
    ReachError
        If they are not those of the role.
    """
    assert found.column is not None
    variables = set(einsum.result.variables)
    if role in INDICES:
        wanted = {{"tile": found.tile, "row": found.row, "column": found.column}[name] for name in INDICES[role]}
        if variables != wanted:
            raise found.refusal(
                f"{role.value} must have the indices {', '.join(sorted(wanted))}, not {', '.join(sorted(variables))}", einsum.at
            )
    if role is Role.TILE_NUMERATOR and (len(variables) != 3 or not {found.tile, found.column} < variables):
        raise found.refusal(f"{role.value} must have {found.tile}, {found.column} and one more index", einsum.at)

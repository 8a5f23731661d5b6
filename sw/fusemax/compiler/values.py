"""Roles of expressions: what a tensor, a number or an operator gives, by the rules of :mod:`.roles`."""

from __future__ import annotations

from ..cascade.errors import ReachError
from ..cascade.expression import Binary, Call, Expression, Reference, Variable, index_text, walk
from ..cascade.indices import Index
from .findings import Findings
from .roles import ON_ARRAY, RULES, Role, Value, When
from .vocabulary import ARRAY_CAN, MASK_HINT, SCALE_HINT

__all__ = ["value_of", "values_of"]


def value_of(found: Findings, expression: Expression, *, whole: bool = False) -> Value:
    """Find the role of an expression; ``whole`` if it is a whole right side.

    Raises
    ------
    ReachError
        If it has none; names its line and column.
    """
    value = _reference(found, expression) if isinstance(expression, Reference) else _computed(found, expression)
    if value.role in ON_ARRAY and not whole and not isinstance(expression, Reference):
        raise found.refusal(
            f"{value.role.value} must be an Einsum of their own, because the array computes them", expression.at
        )
    return value


def values_of(found: Findings, operator: str, left: Expression, right: Expression) -> tuple[Value, Value]:
    """Find the roles of an operator's operands.

    Raises
    ------
    ReachError
        If one of them has none. A factor or a position goes first: it explains why the rest has no role either.
    """
    for operand in (left, right):
        if not _reads(operand):
            raise _no_place(found, operand, operator)
    return value_of(found, left), value_of(found, right)


# -- operators -----------------------------------------------------------------------------------------------------


def _computed(found: Findings, expression: Expression) -> Value:
    """Role of anything but a tensor."""
    match expression:
        case Call("exp", (Binary("-", left, right),)):
            return _operation(found, expression, "exp", left, right)
        case Call("exp", _):
            raise found.refusal("exp is of a difference: scores minus the running maximum", expression.at)
        case Call("max", (left, right)):
            return _operation(found, expression, "max", left, right)
        case Binary("*" | "+" | "/" as operator, left, right):
            return _operation(found, expression, operator, left, right)
    if not _reads(expression):
        raise _no_place(found, expression)
    raise found.refusal(f"it has no operation for {expression}; {ARRAY_CAN}", expression.at)


def _reads(expression: Expression) -> bool:
    return any(isinstance(node, Reference) for node in walk(expression))


def _no_place(found: Findings, constant: Expression, operator: str = "") -> ReachError:
    """Make the error for an expression that reads no tensor; ``operator`` is what it is an operand of."""
    if any(isinstance(node, Variable) for node in walk(constant)):
        return found.refusal(f"it has no operation for {constant}; {MASK_HINT}", constant.at)
    hint = f"; {SCALE_HINT}" if operator in ("*", "/") else ""
    return found.refusal(f"{constant} has no place{hint}", constant.at)


def _operation(found: Findings, expression: Expression, operator: str, left: Expression, right: Expression) -> Value:
    """Role of an operation on two values."""
    a, b = values_of(found, operator, left, right)
    # What a lane writes for the next tile can be read from its state only.
    readable = operator != "exp" or isinstance(right, Reference)
    for rule in RULES:
        if rule.operator == operator and readable and (value := rule.apply(a, b)):
            return value
    reasons = {
        "max": "a lane's max is of the running maximum and the maximum of a tile",
        "exp": "exp is of scores, or of the old running maximum, minus the new running maximum "
        f"(index {found.tile}+1), not of {left} - {right}",
        "*": "a lane multiplies a state by the factor exp(old - new running maximum)",
        "+": "a lane adds the sum of a tile to its state times the factor",
        "/": "it divides once: the last numerator by the last denominator, under finally",
    }
    raise found.refusal(reasons[operator], expression.at)


# -- tensors -------------------------------------------------------------------------------------------------------


def _reference(found: Findings, reference: Reference) -> Value:
    """Role of a tensor: an input, a state at a step, or what an Einsum of this tile gave."""
    role = found.roles[reference.tensor]
    indices = found.indices(reference)
    index = next((i for i in indices if i.rank == found.tile.upper()), None)
    for other in indices:
        whole = other.kind == "split" and role is Role.OPERAND
        if (other is not index or role is Role.OPERAND) and not whole and (other.kind != "variable" or other.offset):
            raise found.refusal(
                f"{index_text(other.expression)} must be a variable alone" + " or the split of a rank" * (role is Role.OPERAND),
                other.expression.at,
            )
    if reference.tensor in found.initial:
        return Value(role, reference.tensor, _step(found, reference, index))
    if role is Role.OPERAND:
        return Value(role)
    if index is None or index.part != found.tile or index.offset:
        raise found.refusal(f"{reference} is not of the same tile", reference.at)
    if role in (Role.SCALED_DENOMINATOR, Role.SCALED_NUMERATOR):
        return Value(role, _state_behind(found, reference.tensor), When.OLD)
    return Value(role)


def _step(found: Findings, reference: Reference, index: Index | None) -> When:
    """Step of a state that is read."""
    if index is not None and index.part == found.tile and index.offset == 0:
        return When.OLD
    if index is not None and index.part == found.tile and index.offset == 1:
        if reference.tensor not in found.updated:
            raise found.refusal(f"{reference} is read before it is written", reference.at)
        return When.NEW
    if index is not None and str(index.expression) == found.tile.upper():
        return When.LAST
    raise found.refusal(
        f"{reference} must be a state before the tile ({found.tile}), after it ({found.tile}+1) or after the last one "
        f"({found.tile.upper()})",
        reference.at,
    )


def _state_behind(found: Findings, tensor: str) -> str:
    """The state that a scaled state is made from."""
    einsum = next(step.einsum for step in found.steps if step.einsum.result.tensor == tensor)
    return next(
        operand.tensor for operand in einsum.operands if operand.tensor in found.initial and operand.tensor != found.maximum
    )

"""What expressions are on the machine: a tensor, a function of the scores, or an operator, by :data:`.rules.RULES`."""

from __future__ import annotations

from ..cascade.errors import Position, ReachError
from ..cascade.expression import Binary, Call, Expression, Name, Number, Reference, Variable, index_text, walk
from ..cascade.indices import Index
from .functions import WEIGHT_FUNCTIONS
from .operations import Accumulate, Contract, Operand, Rescaled, Unit, Weigh
from .rules import RULES, Form, Value, When, nearest
from .scope import Scope
from .score_function import identify
from .vocabulary import ARRAY_CAN, MASK_HINT, SCALE_HINT

__all__ = ["apply_rule", "value_of", "values_of"]

#: Operators and their forms.
FORMS = {"*": Form.TIMES, "+": Form.PLUS, "/": Form.DIVIDED}
#: What is added to a denominator so that it is not zero, at most: it is below the last bit of a float32 of 1.
SMALLEST_DENOMINATOR = 2.0**-24


def value_of(scope: Scope, expression: Expression, *, whole: bool = False) -> Value:
    """Find what an expression is; ``whole`` if it is a whole right side.

    Raises
    ------
    ReachError
        If no rule fits; names its line and column.
    """
    value = _reference(scope, expression) if isinstance(expression, Reference) else _computed(scope, expression)
    if value.operation.unit is Unit.ARRAY and not whole and not isinstance(expression, Reference):
        raise scope.refusal(f"{value.name} must be an Einsum of their own, because the array computes them", expression.at)
    return value


def values_of(scope: Scope, operator: str, left: Expression, right: Expression) -> tuple[Value, Value]:
    """Find what an operator's operands are.

    Raises
    ------
    ReachError
        If one of them is nothing. A factor or a position goes first: it explains why the rest is nothing either.
    """
    for operand in (left, right):
        if not _reads(operand):
            raise _no_place(scope, operand, operator)
    return value_of(scope, left), value_of(scope, right)


def apply_rule(scope: Scope, form: Form, values: tuple[Value, ...], reason: str, at: Position | None) -> Value:
    """Find the rule that fits.

    Raises
    ------
    ReachError
        If none does, with ``reason`` and the nearest one.
    """
    for rule in RULES:
        if rule.form is form and (value := rule.apply(values)):
            return value
    rule = nearest(form, values)
    raise scope.refusal(f"{reason}; the nearest rule is: {rule.text}" if rule else reason, at)


# -- operators -----------------------------------------------------------------------------------------------------


def _computed(scope: Scope, expression: Expression) -> Value:
    """What anything but a tensor is."""
    weigh = _function_of_scores(scope, expression)
    if weigh is not None:
        return weigh
    match expression:
        case Call("exp", (Binary("-", left, right),)):
            return _operation(scope, expression, Form.EXP, left, right)
        case Call("exp", _):
            raise scope.refusal("exp is of a difference: scores minus the running maximum", expression.at)
        case Call("max", (left, right)):
            return _operation(scope, expression, Form.MAX, left, right)
        case Binary("/", left, Binary("+", Reference() as right, Number() | Name() as least)) if _tiny(scope, least):
            return _operation(scope, expression, Form.DIVIDED, left, right)
        case Binary("*" | "+" | "/" as operator, left, right):
            return _operation(scope, expression, FORMS[operator], left, right)
        case Call(name, _) if name in WEIGHT_FUNCTIONS:
            argument = ", ".join(map(str, expression.arguments))
            raise scope.refusal(f"{name} is of scores alone, without a running maximum, not of {argument}", expression.at)
    if not _reads(expression):
        raise _no_place(scope, expression)
    raise scope.refusal(f"it has no operation for {expression}; {ARRAY_CAN}", expression.at)


def _function_of_scores(scope: Scope, expression: Expression) -> Value | None:
    """Weights that are a function of the score alone; none if the expression reads anything else."""
    references = [node for node in walk(expression) if isinstance(node, Reference)]
    operations = [scope.operations.get(reference.tensor) for reference in references]
    if not references or len(set(references)) > 1 or not all(isinstance(operation, Contract) for operation in operations):
        return None
    if scope.maximum is not None:
        return None
    place = next((node for node in _outside(expression) if isinstance(node, Variable)), None)
    if place is not None:
        raise scope.refusal(f"it has no operation for {place}, the place of an element; {MASK_HINT}", place.at or expression.at)
    value_of(scope, references[0])
    found = identify(scope.cascade, expression)
    if found is None:
        known = ", ".join(WEIGHT_FUNCTIONS)
        raise scope.refusal(
            f"{expression} is no function of the score that the table of weight functions has ({known}), with a factor and an "
            "addend of the score that are numbers",
            expression.at,
        )
    function, scale, bias = found
    return Value(Weigh(function, scale=scale, bias=bias))


def _outside(expression: Expression) -> list[Expression]:
    """Nodes that are not within an index."""
    if isinstance(expression, Reference):
        return []
    return [expression, *(node for child in expression.children for node in _outside(child))]


def _tiny(scope: Scope, number: Expression) -> bool:
    values = {constant.name: constant.value for constant in scope.cascade.constants}
    value = number.value if isinstance(number, Number) else values.get(str(number), 1.0)
    return 0 <= value <= SMALLEST_DENOMINATOR


def _reads(expression: Expression) -> bool:
    return any(isinstance(node, Reference) for node in walk(expression))


def _no_place(scope: Scope, constant: Expression, operator: str = "") -> ReachError:
    """Make the error for an expression that reads no tensor; ``operator`` is what it is an operand of."""
    if any(isinstance(node, Variable) for node in walk(constant)):
        return scope.refusal(f"it has no operation for {constant}; {MASK_HINT}", constant.at)
    hint = f"; {SCALE_HINT}" if operator in ("*", "/") else ""
    return scope.refusal(f"{constant} has no place{hint}", constant.at)


def _operation(scope: Scope, expression: Expression, form: Form, left: Expression, right: Expression) -> Value:
    """What an operation on two values is."""
    values = values_of(scope, form.value, left, right)
    reasons = {
        Form.MAX: "a lane's max is of the running maximum and the maximum of a tile",
        Form.EXP: "exp is of scores, or of the old running maximum, minus the new running maximum "
        f"(index {scope.tiles.tile}+1), not of {left} - {right}",
        Form.TIMES: "a lane multiplies a state by the factor exp(old - new running maximum)",
        Form.PLUS: "a lane adds the sum of a tile to its state times the factor",
        Form.DIVIDED: "it divides once: the last numerator by the last denominator, under finally",
    }
    # What a lane writes for the next tile can be read from its state only.
    if form is Form.EXP and not isinstance(right, Reference):
        raise scope.refusal(reasons[form], expression.at)
    return apply_rule(scope, form, values, reasons[form], expression.at)


# -- tensors -------------------------------------------------------------------------------------------------------


def _reference(scope: Scope, reference: Reference) -> Value:
    """What a tensor is: an input, a state at a step, or what an Einsum of this tile gave."""
    operation = scope.operations[reference.tensor]
    indices = scope.indices(reference)
    index = next((i for i in indices if i.rank == scope.tiles.tile.upper()), None)
    operand = isinstance(operation, Operand)
    for other in indices:
        whole = other.kind == "split" and operand
        if (other is not index or operand) and not whole and (other.kind != "variable" or other.offset):
            raise scope.refusal(
                f"{index_text(other.expression)} must be a variable alone" + " or the split of a rank" * operand,
                other.expression.at,
            )
    if reference.tensor in scope.initial:
        return Value(operation, reference.tensor, _step(scope, reference, index))
    if operand:
        return Value(operation)
    if index is None or index.part != scope.tiles.tile or index.offset:
        raise scope.refusal(f"{reference} is not of the same tile", reference.at)
    if isinstance(operation, Rescaled):
        return Value(operation, _state_behind(scope, reference.tensor), When.OLD)
    return Value(operation)


def _step(scope: Scope, reference: Reference, index: Index | None) -> When:
    """Step of a state that is read."""
    tile = scope.tiles.tile
    if index is not None and index.part == tile and index.offset == 0:
        return When.OLD
    if index is not None and index.part == tile and index.offset == 1:
        if reference.tensor not in scope.updated:
            raise scope.refusal(f"{reference} is read before it is written", reference.at)
        return When.NEW
    if index is not None and str(index.expression) == tile.upper():
        return When.LAST
    raise scope.refusal(
        f"{reference} must be a state before the tile ({tile}), after it ({tile}+1) or after the last one ({tile.upper()})",
        reference.at,
    )


def _state_behind(scope: Scope, tensor: str) -> str:
    """The state that a scaled state is made from."""

    def is_sum(name: str) -> bool:
        return isinstance(scope.operations[name], Accumulate)

    einsum = next(step.einsum for step in scope.steps if step.einsum.result.tensor == tensor)
    return next(operand.tensor for operand in einsum.operands if operand.tensor in scope.initial and is_sum(operand.tensor))

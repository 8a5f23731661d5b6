"""Which function of the score an expression is, however it is written."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..cascade.builtins import BINARY, MAPS
from ..cascade.cascade import Cascade
from ..cascade.expression import Binary, Call, Expression, Name, Number, Reference, Unary, walk
from .functions import WEIGHT_FUNCTIONS

__all__ = ["identify"]

#: Scores at which an expression is compared with the functions of the table.
SCORES = np.concatenate([np.linspace(-20, 20, 81), np.linspace(-0.9, 0.9, 19)])


def identify(cascade: Cascade, expression: Expression) -> tuple[str, float, float] | None:
    """Find the weight function that an expression of one tensor is.

    Parameters
    ----------
    cascade
        Its constants and functions may be used.
    expression
        An expression that reads one tensor, the scores.

    Returns
    -------
    tuple or None
        Name of the function, scale and bias: the expression is function(scale · score + bias). None if it is none.
    """
    values = _value(cascade, expression, SCORES)
    if values is None:
        return None
    direct = _affine_call(cascade, expression)
    if direct is not None:
        return direct
    for scale, bias in _affine_parts(cascade, expression):
        for name, function in WEIGHT_FUNCTIONS.items():
            if np.allclose(values, function.compute(scale * SCORES + bias), rtol=1e-9, atol=1e-12):
                return name, scale, bias
    return None


def _affine_parts(cascade: Cascade, expression: Expression) -> list[tuple[float, float]]:
    """Scale and bias of all parts of an expression that are scale · score + bias, and of their opposites."""
    found = dict.fromkeys([(1.0, 0.0)])
    for node in walk(expression):
        part = _affine(cascade, node)
        if part is not None:
            found |= dict.fromkeys([part, (-part[0], -part[1])])
    return list(found)


def _affine_call(cascade: Cascade, expression: Expression) -> tuple[str, float, float] | None:
    """A function of the table called by its name, with a score that is scaled and moved."""
    name, argument = "identity", expression
    if isinstance(expression, Call) and expression.function in WEIGHT_FUNCTIONS and len(expression.arguments) == 1:
        name, (argument,) = expression.function, expression.arguments
    part = _affine(cascade, argument)
    return None if part is None else (name, *part)


def _affine(cascade: Cascade, expression: Expression) -> tuple[float, float] | None:
    """Scale and bias of scale · score + bias; none if the expression is not that."""
    at = np.array([0.0, 1.0, -7.0, 12.5])
    values = _value(cascade, expression, at)
    if values is None:
        return None
    bias, scale = float(values[0]), float(values[1] - values[0])
    return (scale, bias) if scale and np.allclose(values, scale * at + bias, rtol=1e-12) else None


def _value(cascade: Cascade, expression: Expression, scores: Any) -> Any:
    """Values of an expression at some scores; none if it has a part that is no function of the score."""
    constants = {constant.name: constant.value for constant in cascade.constants}
    functions = {function.name: function for function in cascade.functions}

    def of(node: Expression, arguments: dict[str, Any]) -> Any:
        match node:
            case Reference():
                return scores
            case Number(value):
                return value
            case Name(name) if name in constants:
                return constants[name]
            case Unary("-", operand):
                return -of(operand, arguments)
            case Binary(operator, left, right) if operator in BINARY:
                return BINARY[operator](of(left, arguments), of(right, arguments))
            case Call(name, given) if name in functions:
                function = functions[name]
                inner = dict(zip(function.parameters, (of(each, arguments) for each in given), strict=True))
                return of(function.body, inner)
            case Call(name, given) if name in MAPS:
                return MAPS[name].compute(*(of(each, arguments) for each in given))
            case _ if str(node) in arguments:
                return arguments[str(node)]
        raise LookupError(str(node))

    try:
        with np.errstate(all="ignore"):
            found = np.broadcast_to(np.asarray(of(expression, {}), np.float64), np.shape(scores))
    except LookupError:
        return None
    return found

"""Maps and reductions that an Einsum can name, with what they mean for NumPy arrays."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["BINARY", "MAPS", "REDUCTIONS", "Map", "Reduction"]

Array = Any


@dataclass(frozen=True)
class Map:
    """A function of values, element by element; ``most`` is none if it takes any number of arguments."""

    compute: Callable[..., Array]
    least: int = 1
    most: int | None = 1


@dataclass(frozen=True)
class Reduction:
    """What ``::name(ranks)`` does over the axes of these ranks.

    ``new_rank`` is set for a reduction that also makes a rank: ``::argtop(l, w)`` gives for every ``w`` a
    coordinate of ``l``.
    """

    compute: Callable[..., Array]
    new_rank: bool = False


def _sigmoid(x: Array) -> Array:
    # Written so that neither sign overflows.
    small = np.exp(-np.abs(x))
    return np.where(np.asarray(x) >= 0, 1, small) / (1 + small)


def _folded(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    return lambda *arguments: functools.reduce(function, arguments)


def _take(*arguments: Array) -> Array:
    """TeAAL's take(a, b, i): argument i where all of them are non-zero."""
    *operands, which = arguments
    present = functools.reduce(np.logical_and, (np.asarray(operand) != 0 for operand in operands))
    return np.where(present, operands[int(which)], 0.0)


MAPS: dict[str, Map] = {
    "abs": Map(np.abs),
    "ceil": Map(np.ceil),
    "clip": Map(lambda x, low, high: np.minimum(np.maximum(x, low), high), 3, 3),
    "cos": Map(np.cos),
    "elu1": Map(lambda x: np.maximum(x, 0) + np.exp(np.minimum(x, 0))),
    "erf": Map(np.vectorize(math.erf, otypes=[float])),
    "exp": Map(np.exp),
    "exp2": Map(np.exp2),
    "floor": Map(np.floor),
    "log": Map(np.log),
    "log2": Map(np.log2),
    "max": Map(_folded(np.maximum), 2, None),
    "min": Map(_folded(np.minimum), 2, None),
    "relu": Map(lambda x: np.maximum(x, 0)),
    "round": Map(np.rint),
    "rsqrt": Map(lambda x: 1 / np.sqrt(x)),
    "sigmoid": Map(_sigmoid),
    "sign": Map(np.sign),
    "sin": Map(np.sin),
    "sqrt": Map(np.sqrt),
    "take": Map(_take, 3, None),
    "tanh": Map(np.tanh),
    "where": Map(np.where, 3, 3),
}


def _argtop(values: Array, axis: int, count: int) -> Array:
    """Coordinates of the ``count`` largest values, in ascending order; of equal values the first."""
    chosen = np.argsort(-values, axis=axis, kind="stable").take(np.arange(count), axis=axis)
    return np.sort(chosen, axis=axis)


REDUCTIONS: dict[str, Reduction] = {
    "add": Reduction(np.add.reduce),
    "all": Reduction(lambda x, axis: np.all(x, axis=axis)),
    "any": Reduction(lambda x, axis: np.any(x, axis=axis)),
    "argmax": Reduction(lambda x, axis: np.argmax(x, axis=axis)),
    "argmin": Reduction(lambda x, axis: np.argmin(x, axis=axis)),
    "argtop": Reduction(_argtop, new_rank=True),
    "logaddexp": Reduction(np.logaddexp.reduce),
    "max": Reduction(np.maximum.reduce),
    "min": Reduction(np.minimum.reduce),
    "mul": Reduction(np.multiply.reduce),
    "sum": Reduction(np.add.reduce),
}

BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "**": np.power,
    "<": np.less,
    "<=": np.less_equal,
    ">": np.greater,
    ">=": np.greater_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}

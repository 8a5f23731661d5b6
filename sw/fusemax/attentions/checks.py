"""Checks of arguments that the functions share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..plan.parts import bfloat16
from ..runtime.argument_checks import check_shapes, is_integer, numbers_of
from ..runtime.operands import as_filled_array, as_operands

__all__ = [
    "check_choice",
    "check_fraction",
    "check_options",
    "check_parts",
    "check_qkv",
    "check_square",
    "heads_of",
    "repeat_heads",
    "softmax_scale",
]


def check_qkv(q: ArrayLike, k: ArrayLike, v: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Read three arrays that go together, as the machine will see them: rounded to bfloat16, in float64.

    Raises
    ------
    TypeError, ValueError
        If they are not as for :func:`fusemax.attention`.
    NonFiniteError
        If a number is not finite in bfloat16: when the array reads it, or here if only the host does.
    """
    operands = as_operands(*(as_filled_array(name, array) for name, array in (("q", q), ("k", k), ("v", v))))
    check_shapes(*operands)
    query, key, value = (bfloat16(array) for array in operands)
    return query, key, value


def check_square(q: NDArray[Any], k: NDArray[Any]) -> None:
    """As many queries as keys.

    Raises
    ------
    ValueError
        If it is not so.
    """
    if q.shape[-2] != k.shape[-2]:
        raise ValueError(f"there must be as many queries as keys, not {q.shape[-2]} and {k.shape[-2]}")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """One of some words.

    Raises
    ------
    ValueError
        If it is none of them.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def check_options(function: str, options: Mapping[str, Any], more: tuple[str, ...] = ()) -> None:
    """Options that say which keys a query sees, and ``more``.

    Raises
    ------
    TypeError
        If another one is given.
    """
    for name in options:
        if name not in ("causal", "key_lengths", "prefix", "query_offset", "window", *more):
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def check_fraction(name: str, value: object) -> float:
    """A number from 0 to 1.

    Raises
    ------
    TypeError
        If it is no number.
    ValueError
        If it is out of that range.
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name} must be from 0 to 1, not {value!r}")
    return float(value)


def check_parts(parts: object) -> None:
    """How many bfloat16 numbers an operand is split into: 1 or 2.

    Raises
    ------
    TypeError, ValueError
        If it is something else.
    """
    if not is_integer(parts):
        raise TypeError(f"parts must be 1 or 2, not {parts!r}")
    if parts not in (1, 2):
        raise ValueError(f"parts must be 1 or 2, not {parts!r}")


def softmax_scale(scale: object, e: int) -> float:
    """Factor of the scores, one number; 1/√E if not given.

    Raises
    ------
    TypeError, ValueError
        If it is not a finite number other than zero.
    """
    if scale is None:
        return 1 / math.sqrt(e)
    number = numbers_of(scale)
    if number is None or number.ndim:
        raise TypeError(f"scale must be a number or None, not {scale!r}")
    if not np.isfinite(number) or number == 0:
        raise ValueError(f"scale must be finite and other than zero, not {scale!r}")
    return float(number)


def heads_of(array: NDArray[Any]) -> NDArray[Any]:
    """The array with all leading axes as one, (heads, length, head dim)."""
    return array.reshape(-1, *array.shape[-2:])


def repeat_heads(array: NDArray[Any], q: NDArray[Any]) -> NDArray[Any]:
    """Keys or values of which each head stands once for every query head that it is for."""
    share = q.shape[-3] // array.shape[-3] if q.ndim > 2 else 1
    return array if share == 1 else np.repeat(array, share, axis=-3)

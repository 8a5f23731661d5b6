"""Queries, keys and values as people have them, and as arrays that go together."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planning.memory_map import OUTPUT_BYTES
from .dlpack import copy_bfloat16

__all__ = ["as_array", "as_filled_array", "as_operands", "converted", "dtype_name"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
#: Kinds of floats that are rounded to bfloat16.
FLOATS = (np.float16, np.float32, np.float64)


def as_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """Read floating-point numbers with at least two axes, length and head dim.

    Parameters
    ----------
    name
        Of the argument, for messages.
    value
        An array; an object with ``__array__`` or ``__dlpack__``, such as a tensor on the CPU; or nested lists.

    Returns
    -------
    NumPy array of bfloat16, float16, float32 or float64: the caller's own memory where that is possible.

    Raises
    ------
    TypeError, ValueError
        If it is something else, or has fewer axes, or a head dim of 0.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must be an array without a mask, not {type(value).__name__}: say with key_lengths, window or causal which "
            f"keys a query sees, and give {name}.data"
        )
    array = converted(name, value)
    if array.dtype != BFLOAT16 and array.dtype not in FLOATS:
        raise TypeError(
            f"{name} must be of bfloat16, float16, float32 or float64 numbers, not {array.dtype}: "
            f"numpy.asarray({name}, numpy.float32) converts it"
        )
    if array.ndim < 2:
        raise ValueError(f"{name} must have at least 2 axes, length and head dim, not shape {array.shape}")
    if not array.shape[-1]:
        raise ValueError(f"{name} must have a head dim of at least 1, not shape {array.shape}")
    return array


def as_filled_array(name: str, value: ArrayLike) -> NDArray[Any]:
    """Read numbers as :func:`as_array` does, at least one.

    Raises
    ------
    TypeError, ValueError
        If there are none, and as there.
    """
    array = as_array(name, value)
    if not array.size:
        raise ValueError(f"{name} must have at least one element, not shape {array.shape}")
    return array


def converted(name: str, value: Any) -> NDArray[Any]:
    """Read an array as it is, another object through DLPack, else as NumPy does it.

    Raises
    ------
    TypeError
        If that cannot be.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        if not hasattr(value, "__dlpack__"):
            return np.asarray(value)
        found = copy_bfloat16(value)
        return np.from_dlpack(value) if found is None else found
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} must be an array of numbers, not {type(value).__name__}: {error}") from error


def as_operands(q: ArrayLike, k: ArrayLike, v: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Read queries, keys and values; axes that are missing have length 1, and batch axes broadcast.

    Returns
    -------
    Arrays of as many axes, whose batch axes, those in front of heads, length and head dim, are equal.

    Raises
    ------
    TypeError, ValueError
        If one is not as :func:`as_array` says, or the batch axes do not broadcast.
    """
    arrays = [as_array(name, value) for name, value in (("q", q), ("k", k), ("v", v))]
    axes = max(array.ndim for array in arrays)
    arrays = [array.reshape((1,) * (axes - array.ndim) + array.shape) for array in arrays]
    try:
        batch = np.broadcast_shapes(*(array.shape[:-3] for array in arrays))
    except ValueError:
        shapes = ", ".join(str(array.shape[:-3]) for array in arrays)
        raise ValueError(f"the batch axes of q, k and v must broadcast, not be {shapes}") from None
    q, k, v = (np.broadcast_to(array, (*batch, *array.shape[-3:])) if axes > 3 else array for array in arrays)
    return q, k, v


def dtype_name(name: str, value: object) -> str:
    """Name the format of results: ``bfloat16`` or ``float32``, given by its name or as a type of NumPy's.

    Raises
    ------
    ValueError
        If it is something else.
    """
    try:
        found = value if isinstance(value, str) else np.dtype(value).name  # type: ignore[call-overload]
    except TypeError:
        found = None
    if value is None or found not in OUTPUT_BYTES:
        raise ValueError(f"{name} must be 'bfloat16' or 'float32', not {value!r}")
    return found

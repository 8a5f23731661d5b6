"""Checks of the arrays of a call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..arith.bf16 import round_float64
from ..errors import NonFiniteError
from ..spec import Config

__all__ = [
    "check_broadcast",
    "check_count",
    "check_head_dims",
    "check_seconds",
    "check_shapes",
    "is_integer",
    "numbers_of",
    "per_entry",
    "per_head",
    "to_bits",
]


def numbers_of(value: object, kinds: str = "iuf") -> NDArray[Any] | None:
    """Integers or floats as an array, bfloat16 as float32; None if it is something else, such as an array with a mask.

    ``kinds`` are those of NumPy's dtypes that are taken.
    """
    if isinstance(value, np.ma.MaskedArray):
        return None
    try:
        numbers = np.asarray(value)
    except ValueError:
        # Lists of different lengths.
        return None
    if numbers.dtype == ml_dtypes.bfloat16:
        numbers = numbers.astype(np.float32)
    return numbers if numbers.dtype.kind in kinds else None


def is_integer(value: object) -> bool:
    """Whether it is an integer, NumPy's included; a truth value is none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_count(name: str, value: Any) -> None:
    """How many of something there are, at least one.

    Raises
    ------
    TypeError
        If it is not an integer.
    ValueError
        If it is less than 1.
    """
    if not is_integer(value):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    """A time.

    Raises
    ------
    TypeError
        If it is not a number.
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")


def check_broadcast(name: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """A shape that broadcasts to another one.

    Raises
    ------
    ValueError
        If it does not.
    """
    try:
        fits = np.broadcast_shapes(shape, wanted) == wanted
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{name} must broadcast to {wanted}, not be of shape {shape}")


def check_shapes(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> None:
    """Check that shapes go together.

    Raises
    ------
    ValueError
        If they do not.
    """
    if not q.shape[:-3] == k.shape[:-3] == v.shape[:-3] or k.shape[:-2] != v.shape[:-2] or q.ndim != k.ndim:
        raise ValueError(
            "the leading axes of q, k and v must be equal, but for the heads of q, "
            f"not {q.shape[:-2]}, {k.shape[:-2]} and {v.shape[:-2]}"
        )
    if q.ndim > 2 and q.shape[-3] % (k.shape[-3] or q.shape[-3] + 1):
        raise ValueError(f"the heads of q must be a multiple of those of k and v, {k.shape[-3]}, not {q.shape[-3]}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"the head dim of k must be that of q, {q.shape[-1]}, not {k.shape[-1]}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"the length of v must be that of k, {k.shape[-2]}, not {v.shape[-2]}")


def check_head_dims(config: Config, e: int, f: int, extra: int = 0) -> None:
    """Head dims that the machine has room for; ``extra`` columns of queries and keys are for ALiBi or a bias.

    Raises
    ------
    ValueError
        If it has not.
    """
    for what, value, limit in (("q and k", e, config.max_e - extra), ("v", f, config.max_f)):
        if value > limit:
            why = f" with alibi_slopes of {extra} columns" if extra and what != "v" else ""
            raise ValueError(f"the head dim of {what} must be at most {limit} on {config.name!r}{why}, not {value}")


def to_bits(name: str, array: NDArray[Any], unseen: Callable[[], NDArray[np.bool_]] | None = None) -> NDArray[np.uint16]:
    """Round an array to bfloat16, to nearest even, once; a view if it is bfloat16 and its last axis contiguous.

    Parameters
    ----------
    array
        Of bfloat16, float16, float32 or float64.
    unseen
        Gives, if it is needed, which numbers have no influence; broadcasts to the array. They are zero if they are not finite.

    Returns
    -------
    The bits.

    Raises
    ------
    NonFiniteError
        If another number is infinite, not a number, or rounded to infinity.
    """
    if array.dtype == ml_dtypes.bfloat16 and array.strides[-1] == array.itemsize:
        bits = array.view(np.uint16)
    else:
        # Of axes that were broadcast only one element is rounded.
        once = array[tuple(slice(None) if stride else slice(1) for stride in array.strides)]
        bits = np.broadcast_to(_rounded(once).view(np.uint16), array.shape)
    wrong = (bits & 0x7F80) == 0x7F80
    if not wrong.any():
        return bits
    if unseen is not None:
        hidden = unseen()
        bits = np.where(wrong & hidden, np.uint16(0), bits)
        wrong = wrong & ~hidden
    first = np.flatnonzero(wrong)
    if first.size:
        place = tuple(int(index) for index in np.unravel_index(first[0], array.shape))
        raise NonFiniteError(f"{name} must be finite in bfloat16, not {array[place]} at {place}")
    return bits


def _rounded(array: NDArray[Any]) -> NDArray[Any]:
    """bfloat16 numbers in a new array."""
    if array.dtype == np.float64:
        return round_float64(array)
    with np.errstate(over="ignore", invalid="ignore"):
        # From float16 to float32 nothing is lost.
        return np.ascontiguousarray(array.astype(np.float32, copy=False).astype(ml_dtypes.bfloat16))


def per_entry(name: str, batch: int, value: Any, low: int | None = None, high: int | None = None) -> tuple[int, ...]:
    """An integer, or one for each of ``batch`` entries.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or one is out of its range.
    """
    numbers = numbers_of(value, kinds="iuO")
    if not batch and np.size(value) == 0:
        return ()
    found = () if numbers is None else tuple(numbers.reshape(-1).tolist())
    if numbers is None or not all(is_integer(number) for number in found):
        raise TypeError(f"{name} must be an integer or one per batch entry, not {value!r}")
    if numbers.ndim and numbers.size != batch:
        raise ValueError(f"{name} must be an integer or {batch} of them, one per batch entry, not {value!r}")
    for number in found:
        if (low is not None and number < low) or (high is not None and number > high):
            limits = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ValueError(f"{name} must be {limits}, not {number}")
    return found


def per_head(name: str, heads: int, value: Any, *, none: bool = False) -> NDArray[np.float32]:
    """A number for each query head; -inf too if that means ``none``.

    Raises
    ------
    TypeError, ValueError
        If it is not that, or one is not finite in float32.
    """
    numbers = numbers_of(value)
    if numbers is None:
        raise TypeError(f"{name} must be numbers, one per query head, not {value!r}")
    if numbers.shape != (heads,):
        raise ValueError(f"{name} must be {heads} numbers, one per query head, not of shape {numbers.shape}")
    with np.errstate(over="ignore"):
        found = numbers.astype(np.float32)
    if not (np.isfinite(found) | (none & (numbers == -np.inf))).all():
        raise ValueError(f"{name} must be finite in float32{' or -inf' if none else ''}, not {value!r}")
    return found

"""What scores are multiplied by: softmax scale and temperatures, and the factor of the queries that they come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .argument_checks import check_broadcast, numbers_of, per_head

__all__ = ["ScoreFactors"]


class ScoreFactors:
    """Factors of a call.

    Parameters
    ----------
    options
        Of the call: ``scale`` and ``temperature``.
    leading
        Leading axes of q.
    shape
        Batch entries, query heads and queries.
    default
        Softmax scale if none is given.
    base
        Factor of the scores besides: log2(e) for exponentials.

    Members
    -------
    scale
        Softmax scale, of all query heads or of each.
    flat
        Heads whose scores are all zero: their queries are zeros on the machine.
    nonzero
        The scale, 1 where it is zero.
    temperature
        (batch, heads, queries), or None.
    of_queries
        float32 factor of the queries, to base 2: a number, or (batch, heads, queries).

    Raises
    ------
    TypeError, ValueError
        If an option is not what :func:`fusemax.attention` says.
    """

    def __init__(
        self, options: Mapping[str, Any], leading: tuple[int, ...], shape: tuple[int, int, int], default: float, base: float
    ) -> None:
        scale, temperature = options.get("scale"), options.get("temperature")
        self.scale = _scale(default if scale is None else scale, shape[1])
        self.flat = self.scale == 0
        self.nonzero = np.where(self.flat, 1.0, self.scale)
        self.temperature = None if temperature is None else _temperature(temperature, leading, shape)
        self.of_queries = self._factor(scale, shape, base)

    def _factor(self, given: object, shape: tuple[int, int, int], base: float) -> NDArray[np.float32] | np.float32:
        with np.errstate(over="ignore"):
            factor = np.asarray(self.nonzero, np.float64) * base
        if not _normal(factor):
            raise ValueError(
                f"scale must be zero or a finite number whose product with log2(e) is a normal float32, not {given!r}"
            )
        if factor.ndim == 0 and self.temperature is None:
            return np.float32(factor)
        factor = np.broadcast_to(factor.reshape(-1, 1), shape)
        if self.temperature is not None:
            factor = factor / self.temperature
            if not _normal(factor):
                raise ValueError("scale · log2(e) / temperature must be a normal float32")
        return factor.astype(np.float32)


def _normal(factor: NDArray[np.float64]) -> bool:
    limits = np.finfo(np.float32)
    return bool(((np.abs(factor) >= float(limits.smallest_normal)) & (np.abs(factor) <= float(limits.max))).all())


def _scale(scale: Any, heads: int) -> NDArray[np.float64]:
    """Softmax scale, one number or one per query head."""
    numbers = numbers_of(scale)
    if isinstance(scale, (list, tuple)) or (numbers is not None and numbers.ndim):
        return per_head("scale", heads, scale).astype(np.float64)
    if numbers is None:
        raise TypeError(f"scale must be a number, one per query head, or None, not {scale!r}")
    return numbers.astype(np.float64)


def _temperature(temperature: Any, leading: tuple[int, ...], shape: tuple[int, int, int]) -> NDArray[np.float64]:
    numbers = numbers_of(temperature)
    if numbers is None:
        raise TypeError(f"temperature must be a number or an array of numbers, not {temperature!r}")
    whole = (*leading, shape[2])
    check_broadcast("temperature", numbers.shape, whole)
    numbers = np.broadcast_to(numbers.astype(np.float64), whole)
    if not ((numbers > 0) & (numbers < np.inf)).all():
        raise ValueError("temperature must be finite and greater than 0")
    return numbers.reshape(shape)

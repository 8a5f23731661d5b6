"""The array as plans use it: sweeps over keys that give sums of weighted values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Unpack

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..api.opening import open_device
from ..planning.output_rows import Rows
from ..runtime.device import Counters, Device
from ..runtime.options import AttentionOptions
from ..runtime.request import Request
from .parts import parts_of

__all__ = ["Array", "Sums", "array_of"]

#: Memory of a model device that is opened for one call; pages that nothing touches cost nothing.
MEMORY_BYTES = 1 << 30

#: Logarithm to base 2 of a weight of zero: far below every other, and far above where scores end.
NO_WEIGHT = -8192.0


@dataclass(frozen=True)
class Sums:
    """What a sweep leaves: Σ w v and Σ w over the keys of each query, as multiples of 2^reference.

    Members
    -------
    reference : float64 (..., P)
        A whole number, not less than the logarithm to base 2 of the largest weight; 0 if a query has seen no key.
    denominator : float64 (..., P)
        Σ w / 2^reference; 0 if a query has seen no key.
    numerator : float64 (..., P, F)
        Σ w v / 2^reference.
    """

    reference: NDArray[np.float64]
    denominator: NDArray[np.float64]
    numerator: NDArray[np.float64]

    @property
    def lse(self) -> NDArray[np.float64]:
        """Natural logarithm of Σ w; -inf if a query has seen no key."""
        with np.errstate(divide="ignore"):
            return np.log(self.denominator) + self.reference * math.log(2)

    @property
    def mean(self) -> NDArray[np.float64]:
        """Σ w v / Σ w; zeros if a query has seen no key."""
        seen = self.denominator > 0
        return np.where(seen[..., None], self.numerator / np.where(seen, self.denominator, 1)[..., None], 0)

    @property
    def total(self) -> NDArray[np.float64]:
        """Σ w v."""
        return np.ldexp(self.numerator, self.reference.astype(np.int64)[..., None])


class Array:
    """The array of an open device.

    Parameters
    ----------
    device
        Where sweeps run.
    counters
        A list that takes the counters of each sweep; none is kept if not given.
    """

    def __init__(self, device: Device, counters: list[Counters] | None = None) -> None:
        self.device, self.config = device, device.config
        self._counters = counters

    def sums(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        scale: float | ArrayLike = 1.0,
        **options: Unpack[AttentionOptions],
    ) -> Sums:
        """Sum values with the weights exp(scale · q kᵀ).

        More values than the machine has room for are further sweeps over the same keys, whose weights are the same bits.

        Parameters
        ----------
        q, k, v
            (..., P, E), (..., M, E), (..., M, F), of numbers that are rounded to bfloat16.
        scale, options
            As :func:`fusemax.attention`'s; those that say which keys a query sees, and ``temperature``.

        Raises
        ------
        ValueError and others
            As :func:`fusemax.attention`.
        """
        pieces = self._sweeps(q, k, v, scale, options, state=True)
        shape = np.shape(q)[:-1]
        reference, denominator = pieces[0].reference, pieces[0].denominator
        assert reference is not None and denominator is not None
        total = denominator.astype(np.float64).reshape(shape)
        return Sums(np.where(total > 0, reference.reshape(shape), 0).astype(np.float64), total, _numerators(pieces, shape))

    def _sweeps(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        scale: float | ArrayLike,
        options: AttentionOptions,
        *,
        state: bool,
    ) -> list[Rows]:
        """A sweep for as many columns of values as the machine has room for, and so on."""
        query, key, value = (np.asarray(x).astype(np.float32).astype(ml_dtypes.bfloat16) for x in (q, k, v))
        found = []
        for start in range(0, value.shape[-1], self.config.max_f):
            some = value[..., start : start + self.config.max_f]
            request = Request.of(query, key, some, {**options, "scale": scale, "return_state": True})
            call = replace(request.call(self.config), state_out=state)
            found.append(self.device.driver.attention(*request.operands(query, key, some), call))
            if self._counters is not None:
                self._counters.append(self.device.counters)
        return found

    def product(self, left: NDArray[Any], right: NDArray[Any], parts: int = 2) -> NDArray[np.float64]:
        """Multiply matrices, of which the left one has no negative number.

        A row of the left one is weights, 2 to the power of their logarithms: against an identity, the keys (or the queries, if
        there are fewer of them) are those logarithms. Rows whose length the machine has no room for are worked in blocks.

        Parameters
        ----------
        left
            (..., I, K), not negative.
        right
            (..., K, J).
        parts
            bfloat16 numbers that an element's logarithm, and an element of ``right``, are rounded to: 1 for a relative error of
            some 1e-3 of an element, 2 for some 1e-5.

        Raises
        ------
        ValueError
            If a number of ``left`` is negative.
        """
        if not (left >= 0).all():
            raise ValueError("left must have no negative number: its elements are weights, which are powers of two")
        *leading, rows, inner = left.shape
        values = np.concatenate(parts_of(right, parts), axis=-1)
        block = self.config.max_e // parts
        by_rows = rows <= inner
        pieces = []
        for start in range(0, rows if by_rows else inner, block):
            chosen = left[..., start : start + block, :] if by_rows else left[..., start : start + block]
            # The largest weight of a row is 1, so that the row's reference is 0 and the machine need not write its state.
            largest = chosen.max(axis=-1, keepdims=True)
            with np.errstate(divide="ignore"):
                logarithm = np.maximum(np.log2(chosen / np.where(largest > 0, largest, 1)), NO_WEIGHT)
            split = parts_of(logarithm, parts)
            weights = np.concatenate([part.swapaxes(-1, -2) if by_rows else part for part in split], axis=-1)
            size = weights.shape[-1] // len(split)
            identity = np.broadcast_to(np.tile(np.eye(size), (1, len(split))), (*leading, size, weights.shape[-1]))
            q, k, v = (identity, weights, values) if by_rows else (weights, identity, values[..., start : start + block, :])
            found = self._sweeps(q, k, v, math.log(2), {}, state=False)
            pieces.append(largest * _numerators(found, q.shape[:-1]))
        total = np.concatenate(pieces, axis=-2) if by_rows else sum(pieces[1:], pieces[0])
        return total.reshape(*leading, rows, -1, right.shape[-1]).sum(axis=-2)


def _numerators(rows: list[Rows], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Columns of several sweeps beside each other, (..., P, F)."""
    pieces = [piece.out.view(np.float32).astype(np.float64) for piece in rows]
    return np.concatenate([piece.reshape(*shape, -1) for piece in pieces], axis=-1)


@contextmanager
def array_of(device: Device | None, counters: list[Counters] | None = None) -> Iterator[Array]:
    """Use the array of a device, or that of a model device of ``base`` which is opened for as long as this lasts.

    Raises
    ------
    TypeError
        If ``device`` is something else, or ``counters`` is no list.
    """
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")
    if counters is not None and not isinstance(counters, list):
        raise TypeError(f"counters must be a list or None, not {counters!r}")
    if device is not None:
        yield Array(device, counters)
        return
    with open_device("model", "base", memory_bytes=MEMORY_BYTES) as opened:
        yield Array(opened, counters)

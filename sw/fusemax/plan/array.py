"""The array as plans use it: sweeps over keys that give sums of weighted values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.compilation import compile as compile_program
from ..compiler.program import Program
from ..opening import open_device
from ..planning.output_rows import Rows
from ..runtime.device import Counters, Device
from ..runtime.options import SweepOptions
from ..runtime.request import Request
from ..spec import CONFIGS
from .parts import operand, parts_of
from .programs import sweep_program
from .weight_scores import NO_WEIGHT

__all__ = ["Array", "Sums", "array_of", "score_bound"]

#: Memory of a model device that is opened for one call; pages that nothing touches cost nothing.
MEMORY_BYTES = 1 << 30

#: Machine of that device: ``base`` with all optional operations.
DEFAULT = replace(CONFIGS["base"], name="base_functions", functions=True, entropy=True)

#: Mean of the bits of a score that its slices leave out.
DROPPED_BITS = 2.0**-13


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

    def merge(self, other: Sums) -> Sums:
        """Sums over the keys of both, in float64 (:meth:`fusemax.State.merge` has the same in float32)."""
        seen = self.denominator > 0, other.denominator > 0
        references = [np.where(s, x.reference, -np.inf) for s, x in zip(seen, (self, other), strict=True)]
        largest = np.maximum(*references)
        largest = np.where(np.isfinite(largest), largest, 0)
        one, two = (np.exp2(reference - largest) for reference in references)
        return Sums(
            largest,
            one * self.denominator + two * other.denominator,
            one[..., None] * self.numerator + two[..., None] * other.numerator,
        )


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
        **options: Unpack[SweepOptions],
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
        ValueError, DeviceError
            As :func:`fusemax.attention`.
        """
        return _sums(self._sweeps(q, k, v, scale, options, state=True), np.shape(q)[:-1])

    def weighted(
        self,
        function: str,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        scale: float = 1.0,
        *,
        bias: float = 0.0,
        bound: float | None = None,
        normalised: bool = False,
        **options: Unpack[SweepOptions],
    ) -> NDArray[np.float64]:
        """Sum values with weights that are a function of the score: Σ function(scale · q kᵀ + bias) v.

        Parameters
        ----------
        function
            A name of :data:`fusemax.plan.programs.SWEEP_FUNCTIONS`.
        q, k, v
            (..., P, E), (..., M, E), (..., M, F), of numbers that are rounded to bfloat16.
        scale, bias
            Of the scores.
        bound
            Largest size of a score; that of Cauchy and Schwarz if not given.
        normalised
            Divide by the sum of the weights.
        options
            Those that say which keys a query sees.

        Returns
        -------
        float64 array (..., P, F)
            A query that sees no key has zeros.

        Raises
        ------
        MissingOptionError
            If the machine was made without an operation that the function needs; names the option. A ValueError too.
        ValueError, DeviceError
            As :func:`fusemax.attention`.
        """
        query, key, value = (operand(x) for x in (q, k, v))
        if bound is None:
            bound = abs(scale) * score_bound(query, key) + abs(bias)
        pieces = []
        for start in range(0, value.shape[-1], self.config.max_f):
            some = value[..., start : start + self.config.max_f]
            dims = query.shape[-1], some.shape[-1]
            program = sweep_program(self.config, function, *dims, bias=bias, bound=bound, normalised=normalised)
            pieces.append(self.program(program, query, key, some, scale, **options))
        return np.concatenate(pieces, axis=-1)

    def program(
        self,
        program: Program,
        q: NDArray[Any],
        k: NDArray[Any],
        v: NDArray[Any],
        scale: float = 1.0,
        **options: Unpack[SweepOptions],
    ) -> NDArray[np.float64]:
        """Run a program on bfloat16 arrays: a sweep; returns its result, which was a float32.

        Raises
        ------
        ValueError, DeviceError
            As :func:`fusemax.attention`.
        """
        request = Request.of(q, k, v, {**options, "scale": scale, "out_dtype": "float32"}, program)
        return request.finish(self.config, self._rows(request, q, k, v)).astype(np.float64)

    def score_sums(
        self, q: ArrayLike, k: ArrayLike, v: ArrayLike, scale: float, **options: Unpack[SweepOptions]
    ) -> tuple[Sums, NDArray[np.float64]]:
        """Sum values as :meth:`sums` does, and the scores too, with the weights of the softmax.

        Returns
        -------
        The sums, and the mean score of every query to base 2, (..., P); 0 if a query has seen no key.

        Raises
        ------
        MissingOptionError
            If the machine was made without the option ``entropy``. A ValueError too.
        ValueError, DeviceError
            As :func:`fusemax.attention`.
        """
        query, key, value = (operand(x) for x in (q, k, v))
        dims = {"head_dim": query.shape[-1], "value_dim": value.shape[-1]}
        program = compile_program("attention_entropy", **dims, config=self.config)
        request = Request.of(query, key, value, {**options, "scale": scale, "return_state": True}, program)
        sums = _sums([self._rows(request, query, key, value)], query.shape[:-1])
        slices = program.feeding.score_columns
        seen = sums.denominator > 0
        mean = sums.numerator[..., :slices].sum(axis=-1) / np.where(seen, sums.denominator, 1) + DROPPED_BITS
        return replace(sums, numerator=sums.numerator[..., slices:]), np.where(seen, mean, 0)

    def _rows(self, request: Request, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], *, state: bool | None = None) -> Rows:
        """A sweep, of a state its numerators; ``state`` says whether it stands in front of each row, if not the request."""
        call = request.call(self.config)
        call = replace(call, raw_out=call.raw_out or request.return_state)
        if state is not None:
            call = replace(call, state_out=state)
        rows = self.device.driver.attention(*request.operands(q, k, v), call)
        if self._counters is not None:
            self._counters.append(self.device.counters)
        return rows

    def _sweeps(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        scale: float | ArrayLike,
        options: SweepOptions,
        *,
        state: bool,
    ) -> list[Rows]:
        """A sweep for as many columns of values as the machine has room for, and so on."""
        query, key, value = (operand(x) for x in (q, k, v))
        found = []
        for start in range(0, value.shape[-1], self.config.max_f):
            some = value[..., start : start + self.config.max_f]
            request = Request.of(query, key, some, {**options, "scale": scale, "return_state": True})
            found.append(self._rows(request, query, key, some, state=state))
        return found

    def product(self, left: NDArray[Any], right: NDArray[Any], parts: int = 2) -> NDArray[np.float64]:
        """Multiply matrices.

        The left one's elements are weights: against an identity, the keys (or the queries, if there are fewer of them) are what
        the weights are made of. If no element is negative they are powers of two, of the elements' logarithms; else they are
        the elements themselves, which needs a machine with the option ``linear``. Rows whose length the machine has no room for
        are worked in blocks.

        Parameters
        ----------
        left
            (..., I, K).
        right
            (..., K, J).
        parts
            bfloat16 numbers that an element (or its logarithm), and an element of ``right``, are rounded to: 1 for a relative
            error of some 1e-3 of an element, 2 for some 1e-5.

        Raises
        ------
        MissingOptionError
            If a number of ``left`` is negative, and the machine was made without the option ``linear``. A ValueError too.
        """
        signed = bool((left < 0).any())
        *leading, rows, inner = left.shape
        values = np.concatenate(parts_of(right, parts), axis=-1)
        block = self.config.max_e // parts
        by_rows = rows <= inner
        pieces = []
        for start in range(0, rows if by_rows else inner, block):
            chosen = left[..., start : start + block, :] if by_rows else left[..., start : start + block]
            largest = np.abs(chosen).max(axis=-1, keepdims=True)
            elements = chosen / np.where(largest > 0, largest, 1)
            if not signed:
                # The largest weight of a row is 1, so that the row's reference is 0 and the machine need not write its state.
                with np.errstate(divide="ignore"):
                    elements = np.maximum(np.log2(elements), NO_WEIGHT)
            split = parts_of(elements, parts)
            weights = np.concatenate([part.swapaxes(-1, -2) if by_rows else part for part in split], axis=-1)
            size = weights.shape[-1] // len(split)
            identity = np.broadcast_to(np.tile(np.eye(size), (1, len(split))), (*leading, size, weights.shape[-1]))
            q, k, v = (identity, weights, values) if by_rows else (weights, identity, values[..., start : start + block, :])
            if signed:
                pieces.append(largest * self.weighted("identity", q, k, v, bound=1.01))
            else:
                pieces.append(largest * _numerators(self._sweeps(q, k, v, math.log(2), {}, state=False), q.shape[:-1]))
        total = np.concatenate(pieces, axis=-2) if by_rows else sum(pieces[1:], pieces[0])
        return total.reshape(*leading, rows, -1, right.shape[-1]).sum(axis=-2)


def _sums(rows: list[Rows], shape: tuple[int, ...]) -> Sums:
    """What sweeps with the same weights have left."""
    reference, denominator = rows[0].reference, rows[0].denominator
    assert reference is not None and denominator is not None
    total = denominator.astype(np.float64).reshape(shape)
    return Sums(np.where(total > 0, reference.reshape(shape), 0).astype(np.float64), total, _numerators(rows, shape))


def _numerators(rows: list[Rows], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Columns of several sweeps beside each other, (..., P, F)."""
    pieces = [piece.out.view(np.float32).astype(np.float64) for piece in rows]
    return np.concatenate([piece.reshape(*shape, -1) for piece in pieces], axis=-1)


def score_bound(q: NDArray[Any], k: NDArray[Any]) -> float:
    """Cauchy and Schwarz: the largest length of a query times that of a key."""
    lengths = [np.linalg.norm(x.astype(np.float64), axis=-1).max() for x in (q, k)]
    return float(lengths[0] * lengths[1]) * (1 + 2**-20)


@contextmanager
def array_of(device: Device | None, counters: list[Counters] | None = None) -> Iterator[Array]:
    """Use the array of a device, or that of a model device of ``base`` with all options, opened for as long as this lasts.

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
    with open_device("model", DEFAULT, memory_bytes=MEMORY_BYTES) as opened:
        yield Array(opened, counters)

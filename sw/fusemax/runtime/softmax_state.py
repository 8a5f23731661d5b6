"""State of a softmax under way: what partial results are merged from, and what sinks and biases begin with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..arith.bf16 import round_float64
from .argument_checks import check_count, numbers_of
from .operands import dtype_name

__all__ = ["State", "merge"]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class State:
    """Softmax over some keys, per query: of scores s and values v.

    Members
    -------
    max : float32 (..., P)
        m, a number near the largest score, natural logarithm; -inf if there is no key.
    denominator : float32 (..., P)
        Σ exp(s - m); 0 if there is no key.
    numerator : float32 (..., P, F)
        Σ exp(s - m) v.

    Raises
    ------
    TypeError, ValueError
        If the members are not such arrays. Leading axes need not be equal, but must broadcast.
    """

    max: NDArray[np.float32]
    denominator: NDArray[np.float32]
    numerator: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name in ("max", "denominator", "numerator"):
            value = getattr(self, name)
            if not isinstance(value, np.ndarray) or value.dtype != np.float32:
                raise TypeError(f"{name} must be a float32 array, not {getattr(value, 'dtype', type(value).__name__)}")
        if self.max.ndim < 1 or self.numerator.ndim < 2 or self.numerator.shape[-1] < 1:
            raise ValueError(
                f"max must end in (P,) and numerator in (P, F), not be of shapes {self.max.shape} and {self.numerator.shape}"
            )
        try:
            np.broadcast_shapes(self.max.shape, self.denominator.shape, self.numerator.shape[:-1])
        except ValueError:
            raise ValueError(
                f"max, denominator and numerator must fit, not be of shapes {self.max.shape}, {self.denominator.shape} "
                f"and {self.numerator.shape}"
            ) from None
        if not (self.max < np.inf).all():
            raise ValueError("max must be finite or -inf")
        if not ((self.denominator >= 0) & (self.denominator < np.inf)).all():
            raise ValueError("denominator must be finite and not negative")
        if ((self.max == -np.inf) & (self.denominator > 0)).any():
            raise ValueError("denominator must be 0 where max is -inf")

    @property
    def shape(self) -> tuple[int, ...]:
        """(..., P, F)."""
        queries = np.broadcast_shapes(self.max.shape, self.denominator.shape, self.numerator.shape[:-1])
        return (*queries, self.numerator.shape[-1])

    @classmethod
    def sink(cls, logits: ArrayLike, queries: int, f: int) -> State:
        """Attention sinks: a key per head with a given score and a value of zero.

        Parameters
        ----------
        logits : (heads,)
            Scores, natural logarithm; -inf is no sink.
        queries, f
            P and F.

        Returns
        -------
        State of (heads, P, F).

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above.
        """
        numbers = numbers_of(logits)
        if numbers is None:
            raise TypeError(f"logits must be numbers, one per head, not {logits!r}")
        with np.errstate(over="ignore"):
            logit = numbers.astype(np.float32)
        if logit.ndim != 1 or not (logit < np.inf).all():
            raise ValueError(f"logits must be finite numbers or -inf, one per head, not {logits!r}")
        for name, value in (("queries", queries), ("f", f)):
            check_count(name, value)
        shape = (len(logit), queries)
        logit = np.broadcast_to(logit[:, None], shape).copy()
        return cls(logit, (logit > -np.inf).astype(np.float32), np.zeros((*shape, f), np.float32))

    @classmethod
    def key_value_bias(
        cls, q: NDArray[Any], k_bias: NDArray[Any], v_bias: NDArray[Any], scale: float | ArrayLike | None = None
    ) -> State:
        """A learned key and value that every query of a head sees, in float64.

        Parameters
        ----------
        q : (..., heads, P, E)
            Queries.
        k_bias, v_bias : (heads, E) and (heads, F)
            The key and the value of each head.
        scale
            Factor of the scores, or one per head; 1/√E if not given.

        Returns
        -------
        State of (..., heads, P, F).

        Raises
        ------
        TypeError, ValueError
            If an argument is not as above, or a number is not finite.
        """
        arrays = []
        for name, array in (("q", q), ("k_bias", k_bias), ("v_bias", v_bias)):
            numbers = numbers_of(array)
            if numbers is None:
                raise TypeError(f"{name} must be an array of numbers, not {array!r}")
            if not np.isfinite(numbers).all():
                raise ValueError(f"{name} must be finite, but is not")
            arrays.append(numbers.astype(np.float64))
        query, key, value = arrays
        if query.ndim < 3 or key.shape != (query.shape[-3], query.shape[-1]) or value.shape[:-1] != key.shape[:1]:
            raise ValueError(
                "q must end in (heads, P, E), k_bias be (heads, E) and v_bias (heads, F), "
                f"not {query.shape}, {key.shape} and {value.shape}"
            )
        factor = numbers_of(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        if factor is None:
            raise TypeError(f"scale must be a number, one per head, or None, not {scale!r}")
        if factor.shape not in ((), key.shape[:1]) or not np.isfinite(factor).all():
            raise ValueError(f"scale must be a finite number, or {len(key)} of them, one per head, not {scale!r}")
        score = factor[..., None] * np.einsum("...hpe,he->...hp", query, key)
        numerator = np.broadcast_to(value[:, None], (*score.shape, value.shape[-1]))
        return _state(score, np.ones(score.shape), numerator)

    def merge(self, *others: State) -> State:
        """Softmax over the keys of all of them together.

        Raises
        ------
        TypeError, ValueError
            If the others are no states, or their shapes do not broadcast.
        """
        states = (self, *others)
        for state in others:
            if not isinstance(state, State):
                raise TypeError(f"states must be of fusemax.State, not {state!r}")
        try:
            shape = np.broadcast_shapes(*(state.shape for state in states))
        except ValueError:
            raise ValueError(f"states must be of shapes that fit, not {[state.shape for state in states]}") from None
        largest = np.full(shape[:-1], -np.inf)
        for state in states:
            largest = np.maximum(largest, np.where(state.denominator > 0, state.max.astype(np.float64), -np.inf))
        denominator, numerator = np.zeros(shape[:-1]), np.zeros(shape)
        for state in states:
            factor = _exp_difference(np.where(state.denominator > 0, state.max.astype(np.float64), -np.inf), largest)
            denominator += factor * state.denominator
            numerator += factor[..., None] * state.numerator
        return _state(largest, denominator, numerator)

    def output(self, dtype: DTypeLike = "float32") -> NDArray[Any]:
        """Divide numerator by denominator, (..., P, F), as ``float32`` or ``bfloat16``; zeros where there is no key.

        Raises
        ------
        ValueError
            If ``dtype`` is something else.
        """
        dtype = dtype_name("dtype", dtype)
        denominator = np.broadcast_to(self.denominator, self.shape[:-1]).astype(np.float64)[..., None]
        seen = denominator > 0
        out = np.where(seen, self.numerator.astype(np.float64) / np.where(seen, denominator, 1), 0)
        with np.errstate(over="ignore"):
            return out.astype(np.float32) if dtype == "float32" else round_float64(out)

    def lse(self) -> NDArray[np.float32]:
        """Natural logarithm of Σ exp(s), float32 (..., P); -inf where there is no key."""
        denominator = np.broadcast_to(self.denominator, self.shape[:-1]).astype(np.float64)
        with np.errstate(divide="ignore"):
            return (np.where(denominator > 0, self.max.astype(np.float64), 0) + np.log(denominator)).astype(np.float32)


def merge(outs: Sequence[NDArray[Any]], lses: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Attention over the keys of several calls together, from what each call gave with ``return_lse=True``.

    Parameters
    ----------
    outs : arrays (..., P, F)
        Of one shape and dtype, float32 or bfloat16.
    lses : arrays (..., P)
        Natural logarithms; -inf where the call's queries saw no key.

    Returns
    -------
    Output of the dtype of ``outs`` and log-sum-exp, float32.

    Raises
    ------
    TypeError, ValueError
        If the arrays are not as above.
    """
    outs, lses = list(outs), list(lses)
    if len(outs) != len(lses) or not outs:
        raise ValueError(f"there must be as many outs as lses and at least one, not {len(outs)} and {len(lses)}")
    for out, lse in zip(outs, lses, strict=True):
        for name, array in (("outs", out), ("lses", lse)):
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} must be arrays, not {type(array).__name__}")
        if out.shape != outs[0].shape or lse.shape != out.shape[:-1]:
            raise ValueError(
                f"outs must be of one shape, {outs[0].shape}, and lses of {outs[0].shape[:-1]}, not {out.shape} and {lse.shape}"
            )
        if out.dtype != outs[0].dtype or out.dtype not in (np.dtype(np.float32), BFLOAT16):
            raise TypeError(f"outs must all be float32 or all bfloat16, not {outs[0].dtype} and {out.dtype}")
        if lse.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(f"lses must be float32 or float64, not {lse.dtype}")
        if not (lse < np.inf).all():
            raise ValueError("lses must be finite or -inf")
    logs = np.stack([lse.astype(np.float64) for lse in lses])
    largest = logs.max(axis=0)
    factors = _exp_difference(logs, largest)
    total = factors.sum(axis=0)
    seen = total > 0
    numerator = sum(factor[..., None] * out.astype(np.float64) for factor, out in zip(factors, outs, strict=True))
    out = np.where(seen[..., None], numerator / np.where(seen, total, 1)[..., None], 0)
    with np.errstate(divide="ignore"):
        lse = (np.where(seen, largest, 0) + np.log(total)).astype(np.float32)
    return (out.astype(np.float32) if outs[0].dtype == np.float32 else round_float64(out)), lse


def state_of_device(reference: NDArray[np.float64], denominator: NDArray[np.float32], numerator: NDArray[np.float32]) -> State:
    """State from the machine's: scores are relative to ``reference``, natural logarithm."""
    return _state(np.where(denominator > 0, reference, -np.inf), denominator, numerator)


def _state(largest: NDArray[np.float64], denominator: NDArray[Any], numerator: NDArray[Any]) -> State:
    """State whose maximum is rounded to float32; denominator and numerator take over what is lost."""
    rounded = largest.astype(np.float32)
    factor = _exp_difference(largest, rounded.astype(np.float64))
    return State(rounded, (factor * denominator).astype(np.float32), (factor[..., None] * numerator).astype(np.float32))


def _exp_difference(part: NDArray[np.float64], largest: NDArray[np.float64]) -> NDArray[np.float64]:
    """exp(part - largest), 0 if both are -inf."""
    none = part == -np.inf
    return np.where(none, 0, np.exp(np.where(none, 0, part) - np.where(none, 0, largest)))

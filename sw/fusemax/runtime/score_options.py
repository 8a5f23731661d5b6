"""Options about scores that leave the machine: a cap, and scores and weights as results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from .argument_checks import numbers_of

__all__ = ["SCORES", "PairTerms", "ScoreOptions"]

#: Scores that a call can return: in front of the cap, behind it, and behind biases and masks.
SCORES = ("raw", "capped", "masked")


@dataclass(frozen=True)
class ScoreOptions:
    """What a call wants of its scores.

    Members
    -------
    softcap
        c of c · tanh(s / c); None for none.
    weights
        The weights are a result.
    scores
        Which scores are a result, one of :data:`SCORES`; None for none.
    """

    softcap: float | None = None
    weights: bool = False
    scores: str | None = None

    @classmethod
    def of(cls, softcap: object, weights: object, scores: object) -> Self:
        """Check the options.

        Raises
        ------
        TypeError, ValueError
            If one is not what :func:`fusemax.attention` says.
        """
        cap = None
        if softcap is not None:
            number = numbers_of(softcap)
            if number is None or number.ndim:
                raise TypeError(f"softcap must be a number or None, not {softcap!r}")
            if not (np.isfinite(number) and number >= 0):
                raise ValueError(f"softcap must be finite and greater than 0, or 0 for no cap, not {softcap!r}")
            cap = float(number) or None
        if not isinstance(weights, (bool, np.bool_)):
            raise TypeError(f"return_weights must be True or False, not {weights!r}")
        if scores is not None and (not isinstance(scores, str) or scores not in SCORES):
            raise ValueError(f"return_scores must be one of {', '.join(SCORES)}, or None, not {scores!r}")
        return cls(cap, bool(weights), scores)

    @property
    def needed(self) -> bool:
        """Whether the call needs scores at all."""
        return self != ScoreOptions()


@dataclass(frozen=True)
class PairTerms:
    """What a caller gives for pairs of queries and keys, broadcast to (batch, heads, P, M).

    Members
    -------
    seen
        Pairs that are seen, as far as these options say; None for all.
    bias
        Added to the scores, 0 where a pair is not seen; None for nothing.
    """

    seen: NDArray[np.bool_] | None = None
    bias: NDArray[Any] | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], leading: tuple[int, ...], queries: int, keys: int) -> Self:
        """Read ``mask`` and ``bias``.

        Raises
        ------
        TypeError, ValueError
            If one is not what :func:`fusemax.attention` says.
        """
        shape = (*leading, queries, keys)
        whole = (int(np.prod(leading[:-1])), leading[-1] if leading else 1, queries, keys)

        def broadcast(name: str, array: NDArray[Any]) -> NDArray[Any]:
            try:
                return np.broadcast_to(array, shape).reshape(whole)
            except ValueError:
                raise ValueError(f"{name} must broadcast to {shape}, not be of shape {array.shape}") from None

        mask, bias = options.get("mask"), options.get("bias")
        seen = None
        if mask is not None:
            if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
                raise TypeError(f"mask must be an array of truth values beside softcap and the like, not {type(mask).__name__}")
            seen = broadcast("mask", mask)
        if bias is None:
            return cls(seen)
        numbers = np.asarray(bias)
        if numbers.dtype.kind != "f" and numbers.dtype.name != "bfloat16":
            raise TypeError(f"bias must be bfloat16 or float32 numbers, not {numbers.dtype}")
        lowest = float(np.finfo(numbers.dtype).min) if numbers.dtype.kind == "f" else -float.fromhex("0x1.fep127")
        finite = numbers.astype(np.float64)
        if np.isnan(finite).any() or (finite == np.inf).any():
            raise ValueError("bias must be finite or -inf, but is not")
        hidden = finite <= lowest
        if hidden.any():
            seen = broadcast("bias", ~hidden) if seen is None else seen & broadcast("bias", ~hidden)
        return cls(seen, broadcast("bias", np.where(hidden, 0, finite)))

    def rows(self, start: int, stop: int) -> tuple[NDArray[np.bool_] | None, NDArray[np.float64] | None]:
        """Both, of some queries."""
        return (
            None if self.seen is None else self.seen[..., start:stop, :],
            None if self.bias is None else self.bias[..., start:stop, :],
        )

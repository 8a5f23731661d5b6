"""Attention in float64: what results are measured against."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["attention", "relative_error"]


def attention(q: ArrayLike, k: ArrayLike, v: ArrayLike, scale: float | None = None) -> NDArray[np.float64]:
    """softmax(scale · q kᵀ) v in float64.

    ``q`` is (…, P, E), ``k`` (…, M, E), ``v`` (…, M, F), of any dtype that converts to float64; the result is (…, P, F).
    ``scale`` is 1/√E by default.
    """
    q, k, v = (np.asarray(x).astype(np.float64) for x in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def relative_error(result: NDArray[Any], exact: NDArray[np.float64]) -> float:
    """‖result − exact‖ / ‖exact‖, Euclidean norms over all elements; ``exact`` is not all zero."""
    return float(np.linalg.norm(result.astype(np.float64) - exact) / np.linalg.norm(exact))

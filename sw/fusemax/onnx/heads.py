"""What the operators share: heads, masks, and the call of the device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..api.attention import attention
from ..runtime.device import Device
from ..runtime.mask_intervals import pair_options

__all__ = ["Terms", "attend", "join_heads", "scores_of", "split_heads", "visible"]

Bools = NDArray[np.bool_]


@dataclass
class Terms:
    """What is done to scores: mask and bias, which broadcast to (batch, query heads, P, M), and further options."""

    seen: Bools | None = None
    bias: NDArray[Any] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def see(self, seen: Bools) -> None:
        """Let only these pairs be seen."""
        self.seen = seen if self.seen is None else self.seen & seen


def split_heads(array: NDArray[Any], heads: int) -> NDArray[Any]:
    """(batch, length, heads · head dim) as (batch, heads, length, head dim)."""
    batch, length, size = array.shape
    if size % heads:
        raise ValueError(f"the hidden size must be a multiple of {heads} heads, not {size}")
    return array.reshape(batch, length, heads, size // heads).swapaxes(1, 2)


def join_heads(array: NDArray[Any]) -> NDArray[Any]:
    """(batch, heads, length, head dim) as (batch, length, heads · head dim)."""
    return np.ascontiguousarray(array.swapaxes(1, 2)).reshape(array.shape[0], array.shape[2], -1)


def visible(place: NDArray[np.int64], keys: int, left: int = -1, right: int = -1) -> Bools:
    """Keys ``place - left`` to ``place + right`` of queries at places (batch, P), -1 for no bound: (batch, 1, P, keys)."""
    place = place[:, None, :, None]
    key = np.arange(keys)
    seen = np.ones((*place.shape[:3], keys), np.bool_)
    if left >= 0:
        seen &= key >= place - left
    if right >= 0:
        seen &= key <= place + right
    return seen


def attend(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], terms: Terms, device: Device | None, **results: Any) -> Any:
    """Attention (batch, heads, length, head dim) on the device, in the type of ``q``, and what ``results`` asks for."""
    shape = *q.shape[:3], k.shape[2]
    out_dtype = "bfloat16" if q.dtype == ml_dtypes.bfloat16 else "float32"
    options = terms.options | pair_options(terms.seen, terms.bias, shape)
    found = attention(q, k, v, device=device, out_dtype=out_dtype, **options, **results)
    if isinstance(found, tuple):
        return tuple(each.astype(q.dtype) for each in found)
    return found.astype(q.dtype)


def scores_of(
    q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], terms: Terms, device: Device | None, kind: str
) -> NDArray[Any]:
    """Scores of all pairs in front of every mask (``raw``, ``capped``), or behind them (``masked``)."""
    if kind != "masked":
        terms = Terms(options=terms.options)
    _, scores = attend(q, k, v, terms, device, return_scores=kind)
    return scores

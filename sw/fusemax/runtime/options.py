"""Keyword arguments of attention, which several functions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..planning.packed_mask import PackedMask
from .softmax_state import State

__all__ = [
    "AttentionOptions",
    "CacheOptions",
    "CallOptions",
    "RequestOptions",
    "SubmitOptions",
    "SweepOptions",
    "VarlenOptions",
    "check_names",
]


class CommonOptions(TypedDict, total=False):
    """Options of every way to call attention; :func:`fusemax.attention` explains each."""

    out_dtype: DTypeLike
    causal: bool
    query_offset: int | Sequence[int] | NDArray[Any]
    window: tuple[int, int] | None
    prefix: int | Sequence[int] | NDArray[Any] | None
    temperature: float | ArrayLike | None
    mask: NDArray[np.bool_] | PackedMask | None
    state: State | None
    sink: ArrayLike | None


class CallOptions(CommonOptions, total=False):
    """Options of a call that waits for its result."""

    timeout: float | None
    progress: Callable[[int, int], None] | None


class BiasOption(TypedDict, total=False):
    """A bias of the scores. Functions of the score have one of their own, so it is not among what all have."""

    bias: NDArray[Any] | None


class AlibiOption(TypedDict, total=False):
    """Slopes of ALiBi."""

    alibi_slopes: ArrayLike | None


class KeyOptions(AlibiOption, total=False):
    """Options about keys that the call brings along, too."""

    key_lengths: Sequence[int] | NDArray[Any] | None
    key_start: int | Sequence[int] | NDArray[Any] | None


class CacheOptions(CallOptions, AlibiOption, BiasOption, total=False):
    """Options of :meth:`fusemax.KVCache.attend`."""


class SweepOptions(CallOptions, KeyOptions, total=False):
    """Options of a sweep that computes something else than attention."""


class AttentionOptions(SweepOptions, BiasOption, total=False):
    """Options of :func:`fusemax.attention`, but for those that its result's type depends on."""

    softcap: float | None


class VarlenOptions(TypedDict, total=False):
    """Options of :func:`fusemax.attention_varlen`; :func:`fusemax.attention` explains each."""

    out_dtype: DTypeLike
    causal: bool
    window: tuple[int, int] | None
    temperature: float | ArrayLike | None
    alibi_slopes: ArrayLike | None
    sink: ArrayLike | None
    return_lse: bool
    timeout: float | None
    progress: Callable[[int, int], None] | None


class SubmitOptions(CommonOptions, KeyOptions, BiasOption, total=False):
    """Options of :meth:`fusemax.Device.submit`."""

    scale: float | ArrayLike | None
    return_lse: bool
    return_state: bool


class RequestOptions(AttentionOptions, SubmitOptions, total=False):
    """All of them."""


#: What others call our options, or have without needing to say so here.
ELSEWHERE = {
    "attn_bias": "is called bias here",
    "attn_mask": "is called mask here if it says which keys are seen, True for seen, and bias if it is added to the scores",
    "attention_mask": "is called mask here, True for seen; for padding there are key_lengths and key_start",
    "dropout": "is not there: nothing is dropped here",
    "dropout_p": "is not there: nothing is dropped here",
    "enable_gqa": "need not be said: k and v may have fewer heads than q here",
    "is_causal": "is called causal here; query i stands at key i + query_offset",
    "key_padding_mask": "is said with key_lengths and key_start here, or with mask, True for seen",
    "logits_soft_cap": "is called softcap here",
    "return_attn_probs": "is called return_weights here, and the log-sum-exp alone return_lse",
    "s_aux": "is called sink here",
    "sinks": "is called sink here",
    "sliding_window": "is called window here: w keys with causal are window=(w - 1, 0)",
    "sm_scale": "is called scale here",
    "softmax_scale": "is called scale here",
    "window_size": "is called window here",
}


def check_names(function: str, options: Mapping[str, Any], known: type) -> None:
    """Refuse an option that a function does not have.

    Raises
    ------
    TypeError
        If a name is none of the options in ``known``, one of the classes above.
    """
    for name in options:
        if name not in known.__optional_keys__:  # type: ignore[attr-defined]
            told = f": {name} {ELSEWHERE[name]}" if name in ELSEWHERE else ""
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{told}")

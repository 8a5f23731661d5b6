"""Keyword arguments of attention, which several functions share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..planning.packed_mask import PackedMask
from .softmax_state import State

__all__ = ["AttentionOptions", "CallOptions", "RequestOptions", "SubmitOptions", "SweepOptions", "check_names"]


class CommonOptions(TypedDict, total=False):
    """Options of every way to call attention; :func:`fusemax.attention` explains each."""

    out_dtype: str
    causal: bool
    query_offset: int | Sequence[int] | NDArray[Any]
    window: tuple[int, int] | None
    prefix: int | Sequence[int] | NDArray[Any] | None
    temperature: float | ArrayLike | None
    mask: NDArray[np.bool_] | PackedMask | None
    state: State | None
    sink: ArrayLike | None


class BiasOption(TypedDict, total=False):
    """A bias of the scores. Functions of the score have one of their own, so it is not among what all have."""

    bias: NDArray[Any] | None


class WaitOptions(CommonOptions, total=False):
    """Options of every call that waits for its result."""

    timeout: float | None
    progress: Callable[[int, int], None] | None


class CallOptions(WaitOptions, BiasOption, total=False):
    """Options of :meth:`fusemax.KVCache.attend`."""


class KeyOptions(TypedDict, total=False):
    """Options about keys that the call brings along."""

    key_lengths: Sequence[int] | NDArray[Any] | None
    alibi_slopes: ArrayLike | None


class SweepOptions(WaitOptions, KeyOptions, total=False):
    """Options of a sweep that computes something else than attention."""


class AttentionOptions(SweepOptions, BiasOption, total=False):
    """Options of :func:`fusemax.attention`, but for those that its result's type depends on."""


class SubmitOptions(CommonOptions, KeyOptions, BiasOption, total=False):
    """Options of :meth:`fusemax.Device.submit`."""

    scale: float | ArrayLike | None
    return_lse: bool
    return_state: bool


class RequestOptions(AttentionOptions, SubmitOptions, total=False):
    """All of them."""


def check_names(function: str, options: Mapping[str, Any], known: type) -> None:
    """Refuse an option that a function does not have.

    Raises
    ------
    TypeError
        If a name is none of the options in ``known``, one of the classes above.
    """
    for name in options:
        if name not in known.__optional_keys__:  # type: ignore[attr-defined]
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")

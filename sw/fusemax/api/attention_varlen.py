"""Attention of sequences of different lengths, packed one behind the other."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..runtime.device import Device
from ..runtime.mask_options import packed_sequences
from ..runtime.operands import as_array
from ..runtime.options import RequestOptions, VarlenOptions, check_names
from ..runtime.request import Request
from .attention import run_request

__all__ = ["attention_varlen"]


def attention_varlen(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    cu_seqlens_q: ArrayLike,
    cu_seqlens_k: ArrayLike,
    max_seqlen_q: int | None = None,
    max_seqlen_k: int | None = None,
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    **options: Unpack[VarlenOptions],
) -> NDArray[Any] | tuple[NDArray[Any], NDArray[np.float32]]:
    """Compute attention of packed sequences, each over its own keys, in one call.

    The arguments are those of FlashAttention's ``flash_attn_varlen_func``. Arrays are copied to the device once, as they lie if
    rows are whole bus words; every sequence is a job that points into them, and jobs follow each other in the machine. A
    sequence's result has the bits of :func:`fusemax.attention` of it alone.

    A sequence of P queries and M keys has query i at key i + M - P: with ``causal`` the last query sees all keys, and the first
    P - M queries see none and give zeros, as in FlashAttention from version 2.1 on. A window, and ALiBi, count from the same
    place. Rows behind the last sequence are zeros, and what is in them has no influence.

    Parameters
    ----------
    q : array (total_q, query heads, E)
        Queries of all sequences, one behind the other; what arrays may be, :func:`fusemax.attention` says.
    k : array (total_k, heads, E)
        Keys. The query heads are a multiple of the heads.
    v : array (total_k, heads, F)
        Values.
    cu_seqlens_q, cu_seqlens_k : integers (sequences + 1,)
        First row of every sequence, and the one behind the last: 0, then cumulative lengths. A length may be 0.
    max_seqlen_q, max_seqlen_k
        Longest sequence; not needed, and not looked at.
    scale, device, options
        As in :func:`fusemax.attention`; ``temperature`` broadcasts to (query heads, total_q).

    Returns
    -------
    array (total_q, query heads, F)
        Of ``ml_dtypes.bfloat16`` or ``float32``. With ``return_lse`` a tuple: the array, and the log-sum-exp, natural
        logarithm, float32 (query heads, total_q).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; nothing has been run then.
    NonFiniteError, DeviceError
        As :func:`fusemax.attention`.

    References
    ----------
    https://github.com/Dao-AILab/flash-attention, ``flash_attn/flash_attn_interface.py`` and the section "2.1: Change behavior
    of causal flag" of its README.
    """
    check_names("attention_varlen", options, VarlenOptions)
    arrays = [as_array(name, value) for name, value in (("q", q), ("k", k), ("v", v))]
    for name, array in zip("qkv", arrays, strict=True):
        if array.ndim != 3:
            raise ValueError(f"{name} must be (rows, heads, head dim), not of shape {array.shape}")
    sequences = packed_sequences(cu_seqlens_q, cu_seqlens_k, len(arrays[0]), len(arrays[1]), options)
    by_head = tuple(array.swapaxes(0, 1) for array in arrays)
    given: RequestOptions = {**options, "scale": scale}
    request = Request.of(by_head[0], by_head[1], by_head[2], given, sequences=sequences)
    result = run_request(request, device, by_head[0], by_head[1], by_head[2])
    out, *lse = result if isinstance(result, tuple) else (result,)
    out = out.swapaxes(0, 1)
    return (out, *lse) if lse else out

"""Attention as a function."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.program import Program
from ..planning.memory_map import Shape, align, required_bytes
from ..runtime.device import MEMORY_BYTES, Device
from ..runtime.options import AttentionOptions, RequestOptions, check_names
from ..runtime.request import Request
from ..runtime.softmax_state import State
from ..spec import PAGE_BYTES, config_named
from .opening import open_device

__all__ = ["attention"]


@overload
def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: Literal[False] = False,
    return_state: Literal[False] = False,
    **options: Unpack[AttentionOptions],
) -> NDArray[Any]: ...


@overload
def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: Literal[True],
    return_state: Literal[False] = False,
    **options: Unpack[AttentionOptions],
) -> tuple[NDArray[Any], NDArray[np.float32]]: ...


@overload
def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: Literal[False] = False,
    return_state: Literal[True],
    **options: Unpack[AttentionOptions],
) -> tuple[NDArray[Any], State]: ...


@overload
def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: Literal[True],
    return_state: Literal[True],
    **options: Unpack[AttentionOptions],
) -> tuple[NDArray[Any], NDArray[np.float32], State]: ...


def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: bool = False,
    return_state: bool = False,
    **options: Unpack[AttentionOptions],
) -> Any:
    """Compute softmax(scale · q kᵀ) v on a device.

    The leading axes of the three arrays are none, heads, batch and heads, or more. They are equal, but for the heads: q may
    have a multiple of the heads of k and v, of which each is for as many heads of q as follow each other.
    ``device.counters`` are those of this call afterwards.

    A query sees key j of its head if it is one of ``key_lengths`` keys, in the first ``prefix`` keys or in the window, and in
    ``mask``. A query that sees no key gives zeros, and a log-sum-exp of -inf.

    Parameters
    ----------
    q : array (..., P, E)
        Queries, float32 or bfloat16. float32 is rounded to bfloat16, to nearest even. Subnormal numbers are zero.
    k : array (..., M, E)
        Keys.
    v : array (..., M, F)
        Values.
    scale
        Factor of the scores, or one per query head; 1/√E if not given. Negative is allowed, zero is not.
    device
        Where to run. If not given, a model device of configuration ``small``, as large as needed, is opened for this call.
    out_dtype
        ``bfloat16`` or ``float32``: format of the result, which is rounded once.
    timeout
        Seconds after which the call fails; no limit if not given. The machine completes its job by itself, and the next
        call waits for that.
    progress
        Called now and then with the tiles done so far, those that a mask leaves out among them, and all of them.
    causal
        A query sees no key behind its own place.
    query_offset
        Query i stands at key position i + offset; one number, or one per batch entry. It may be negative. M - P places the last
        query at the last key.
    window
        (left, right): a query sees so many keys in front of its own place and behind it, and the one there; -1 for all.
    key_lengths
        Keys that there are in each batch entry, 0 to M.
    prefix
        So many keys from the first are seen by every query; one number, or one per batch entry.
    mask
        Array of bool that broadcasts to (..., P, M), True is seen; or a :class:`fusemax.PackedMask`, which is taken as it is.
        Costs no slots. What broadcasts over heads or batch is copied to the device once.
    bias
        Array of float32 or bfloat16 that broadcasts to (..., P, M): added to scale · q kᵀ before a temperature divides. Every
        tile takes as many slots more as the array has rows. -inf, or the lowest number of its format, says that a key is not
        seen. It is rounded once, to 17 significant bits: by 2^-17 of itself at most (docs/explanation/microarchitecture.md).
    temperature
        Greater than 0, broadcasts to (..., P): scores are divided by it.
    alibi_slopes
        One per query head: slope · (j - place of the query) is added to its scores, before a temperature divides them. Needs 2
        columns of E if every slope / scale is a bfloat16 number, else 4, and at most 65536 keys.
    return_lse
        Return the log-sum-exp of the scores too.
    state
        Scores and values that come before those of the keys; broadcasts to (..., P, F). It is merged on the host.
    return_state
        Return the state too, that of the argument ``state`` included.
    sink
        A score per query head that takes part in the softmax with a value of zero.
    program
        What :func:`fusemax.compile` made for the device's configuration and these head dims; the default program if not given.
        It is checked against the machine's rules first. What it computes is what its cascade says, of scores that are
        scale · q kᵀ: a program without a running maximum gives no log-sum-exp and takes no state, sink or ALiBi; one that does
        not divide gives numerators; one that sums scores gives them in front of the values' columns.

    Returns
    -------
    array (..., P, F)
        Of ``ml_dtypes.bfloat16`` or ``float32``. With ``return_lse`` and ``return_state`` a tuple: the array; log-sum-exp,
        natural logarithm, float32 (..., P); :class:`fusemax.State`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; nothing has been run then. Head dims are limited by ``device.config``. States and
        log-sum-exp need a bus of 64 bits.
    RuleError
        If the machine cannot run ``program``; nothing has been run then.
    NonFiniteError
        If an array holds an infinity or a NaN, or a float32 that is rounded to infinity.
    ScoreOverflowError
        If a score left its range (±2^(score_bits - 1 - score_frac_bits), to base 2).
    DeviceClosedError, DeviceMemoryError
        If the device was closed, or its memory is too small for arrays and result; nothing has been run then.
    DeviceTimeoutError
        If the machine was not done in time.
    DeviceFaultError
        If the machine stopped. It has been reset and takes the next call.
    """
    check_names("attention", options, AttentionOptions)
    given: RequestOptions = {**options, "scale": scale, "return_lse": return_lse, "return_state": return_state}
    request = Request.of(q, k, v, given, program)
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")
    if device is None:
        with open_device("model", "small", memory_bytes=_room(request, k)) as opened:
            return _run(request, opened, q, k, v)
    return _run(request, device, q, k, v)


def _run(request: Request, device: Device, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> Any:
    driver = device.driver
    call = request.call(device.config)
    return request.finish(device.config, driver.attention(*request.operands(q, k, v), call))


def _room(request: Request, k: NDArray[Any]) -> int:
    """Memory of a device that is opened for one call."""
    heads = k.shape[-3] if k.ndim > 2 else 1
    shape = Shape(
        batch=request.batch,
        heads=heads,
        share=request.heads // heads,
        queries=request.queries,
        keys=request.keys,
        e=request.e + request.extra_columns,
        f=request.output_columns,
        out_dtype="float32",
        row_scale=True,
        state_out=True,
    )
    need = required_bytes(config_named("small"), shape)
    return max(MEMORY_BYTES, align(need, PAGE_BYTES))

"""Attention as a function."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..compiler.program import Program
from ..opening import open_device
from ..plan.array import Array
from ..runtime.device import Counters, Device
from ..runtime.operands import as_operands
from ..runtime.options import AttentionOptions, RequestOptions, check_names
from ..runtime.request import Request
from ..runtime.room import room_of
from ..runtime.score_options import ScoreOptions
from ..runtime.softmax_state import State
from ..spec import Config, config_named
from .scored_attention import ScoredAttention

__all__ = ["attention", "run_request"]

#: Machine of a device that is opened for a call whose scores leave it.
WITH_SCORES = replace(config_named("small"), name="small_linear", linear=True)


@overload
def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
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
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
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
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
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
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: Literal[True],
    return_state: Literal[True],
    **options: Unpack[AttentionOptions],
) -> tuple[NDArray[Any], NDArray[np.float32], State]: ...


@overload
def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: bool = False,
    return_state: bool = False,
    return_weights: bool = False,
    return_scores: str | None = None,
    counters: list[Counters] | None = None,
    **options: Unpack[AttentionOptions],
) -> Any: ...


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    *,
    program: Program | None = None,
    return_lse: bool = False,
    return_state: bool = False,
    return_weights: bool = False,
    return_scores: str | None = None,
    counters: list[Counters] | None = None,
    **options: Unpack[AttentionOptions],
) -> Any:
    """Compute softmax(scale · q kᵀ) v on a device.

    The leading axes of the three arrays are none, heads, batch and heads, or more. Batch axes broadcast, and axes that an array
    has not are of length 1. q may have a multiple of the heads of k and v, of which each is for as many heads of q as follow
    each other. ``device.counters`` are those of this call afterwards, or of its last sweep.

    A query sees key j of its head if it is one of ``key_lengths`` keys and not before ``key_start``, in the first ``prefix``
    keys or in the window, and in ``mask``. A query that sees no key gives zeros, and a log-sum-exp of -inf; so do all of them
    if there are no keys.

    The arrays are NumPy arrays, objects with ``__array__`` or ``__dlpack__``, such as tensors on the CPU, or nested lists.
    Their numbers are bfloat16, float16, float32 or float64, and are rounded to bfloat16 once, to nearest even. Subnormal
    numbers are zero. Integers are refused, since they are often codes of something.

    Parameters
    ----------
    q : array (..., P, E)
        Queries.
    k : array (..., M, E)
        Keys.
    v : array (..., M, F)
        Values. If they are the first columns of the keys in the same memory, ``k[..., :F]``, they are read with them.
    scale
        Factor of the scores, or one per query head; 1/√E if not given. Negative is allowed; with zero all scores are zero, and
        a query gets the mean of the values that it sees.
    device
        Where to run. If not given, a model device of configuration ``small``, as large as needed, is opened for this call.
    out_dtype
        ``bfloat16`` or ``float32``, by name or as a type of NumPy's: format of the result, which is rounded once.
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
    key_start
        Number of the first key that is seen, 0 to M; one number, or one per batch entry. For batches that are padded on the
        left. Places of queries, and a prefix, still count from key 0 of the array. The result has the bits of a call with the
        keys from ``key_start`` on, and ``query_offset`` and ``prefix`` smaller by as much.
    prefix
        So many keys from the first are seen by every query; one number, or one per batch entry.
    mask
        bool, broadcasts to (..., P, M), True is seen; or a :class:`fusemax.PackedMask`, which is taken as it is.
        Costs no slots. What broadcasts over heads or batch is copied to the device once. Key tiles that no query of a group
        sees, in any head and batch entry, are left out where that takes fewer cycles.
    bias
        Numbers that broadcast to (..., P, M), in a format as for q: added to scale · q kᵀ before a temperature divides. Every
        tile takes as many slots more as the array has rows. -inf, or the lowest number of its format, says that a key is not
        seen. It is rounded once, to 17 significant bits: by 2^-17 of itself at most (docs/explanation/microarchitecture.md).
    temperature
        Greater than 0, broadcasts to (..., P): scores are divided by it.
    alibi_slopes
        One per query head: slope · (j - place of the query) is added to its scores, before a temperature divides them. Needs 2
        columns of E if every slope / scale is a bfloat16 number, else 4, and at most 65536 keys.
    softcap
        c: scores are c · tanh(s / c), before ALiBi, masks and temperature; 0 for no cap. Scores leave the machine and weights
        come back, which takes two to four times the cycles.
    return_lse
        Return the log-sum-exp of the scores too.
    state
        Scores and values that come before those of the keys; broadcasts to (..., P, F). It is merged on the host.
    return_state
        Return the state too, that of the argument ``state`` included.
    sink
        A score per query head that takes part in the softmax with a value of zero; -inf is no sink.
    return_weights
        Return the weights of the softmax too, a sink and ``state`` taken into account; 0 where a query does not see a key.
    return_scores
        Return scores too: ``raw``, scale · q kᵀ; ``capped``, behind ``softcap``; ``masked``, behind everything that changes
        them, and -inf where a query does not see a key.
    counters
        A list that takes the counters of every sweep of the machine: one, or more with ``softcap``, weights or scores.
    program
        What :func:`fusemax.compile` made for the device's configuration and these head dims; the default program if not given.
        It is checked against the machine's rules first. What it computes is what its cascade says, of scores that are
        scale · q kᵀ: a program without a running maximum gives no log-sum-exp and takes no state, sink or ALiBi; one that does
        not divide gives numerators; one that sums scores gives them in front of the values' columns.

    Returns
    -------
    array (..., P, F)
        Of ``ml_dtypes.bfloat16`` or ``float32``. With ``return_lse``, ``return_state``, ``return_weights`` and
        ``return_scores`` a tuple: the array; log-sum-exp, natural logarithm, float32 (..., P); :class:`fusemax.State`;
        weights, float32 (..., P, M); scores, float32 (..., P, M).

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; nothing has been run then. Head dims are limited by ``device.config``. States and
        log-sum-exp need a bus of 64 bits.
    RuleError
        If the machine cannot run ``program``; nothing has been run then.
    NonFiniteError
        If an array holds an infinity or a NaN, or a number that is rounded to infinity. Keys and values that no query sees may,
        and queries that see no key.
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
    q, k, v = as_operands(q, k, v)
    request = Request.of(q, k, v, given, program)
    wanted = ScoreOptions.of(options.get("softcap"), return_weights, return_scores)
    if not wanted.needed:
        return run_request(request, device, q, k, v, counters)
    if program is not None:
        raise ValueError("program must not be given with softcap, return_weights or return_scores")
    with opened(device, request, k, WITH_SCORES) as machine:
        found = ScoredAttention(Array(machine, counters), request, wanted).run(q, k, v)
        state = found.get("state")
        if state is None:
            out = run_request(request, machine, q, k, v, counters)
        else:
            whole = state if request.initial is None else state.merge(request.initial)
            out = request.of_state(whole, whole.output(request.out_dtype))
    results = [*(out if isinstance(out, tuple) else (out,)), *(found[n] for n in ("weights", "scores") if n in found)]
    return results[0] if len(results) == 1 else tuple(results)


def run_request(
    request: Request,
    device: Device | None,
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    counters: list[Counters] | None = None,
) -> Any:
    """Run a call on a device, or if None on a model device that is opened for it.

    Raises
    ------
    TypeError, DeviceError
        If ``device`` is something else; as :func:`attention`.
    """
    with opened(device, request, k, config_named("small")) as machine:
        driver = machine.driver
        call = request.call(machine.config)
        rows = driver.attention(*request.operands(q, k, v), call)
        if counters is not None:
            counters.append(machine.counters)
        return request.finish(machine.config, rows)


@contextmanager
def opened(device: Device | None, request: Request, k: NDArray[Any], config: Config) -> Iterator[Device]:
    """The device, or if None a model device of that configuration for as long as this lasts.

    Raises
    ------
    TypeError
        If ``device`` is something else.
    """
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")
    if device is not None:
        yield device
        return
    room = room_of(request, config, k.shape[-3] if k.ndim > 2 else 1)
    with open_device("model", config, memory_bytes=room) as machine:
        yield machine

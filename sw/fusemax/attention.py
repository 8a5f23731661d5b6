"""Attention as a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .device import MEMORY_BYTES, Device, open_device
from .errors import NonFiniteError
from .jobs import OUTPUT_BYTES, required_bytes
from .program import Program
from .schedule import check
from .spec import config_named

__all__ = ["attention"]


def attention(
    q: NDArray[Any],
    k: NDArray[Any],
    v: NDArray[Any],
    scale: float | None = None,
    device: Device | None = None,
    out_dtype: str = "bfloat16",
    timeout: float | None = None,
    progress: Callable[[int, int], None] | None = None,
    program: Program | None = None,
) -> NDArray[Any]:
    """softmax(scale · q kᵀ) v, on a device.

    The leading axes of the three arrays (none, heads, batch and heads, or more) are equal; all of them are one job.
    ``device.counters`` are those of this call afterwards.

    Parameters
    ----------
    q : array (..., P, E)
        Queries, float32 or bfloat16. float32 is rounded to bfloat16, to nearest even. Subnormal numbers are zero.
    k : array (..., M, E)
        Keys.
    v : array (..., M, F)
        Values.
    scale
        Factor of the scores; 1/√E if not given. Negative is allowed, zero is not.
    device
        Where to run. If not given, a model device of configuration ``small``, as large as needed, is opened for this call.
    out_dtype
        ``bfloat16`` or ``float32``: format of the result, which is rounded once.
    timeout
        Seconds after which the call fails; no limit if not given. The machine completes its job by itself, and the next
        call waits for that.
    progress
        Called now and then with the tiles issued so far and all of them.
    program
        What :func:`fusemax.compile` made for the device's configuration and these head dims; the default program if not given.
        It is checked against the machine's rules first.

    Returns
    -------
    array (..., P, F)
        Of ``ml_dtypes.bfloat16`` or ``float32``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; nothing has been run then. Head dims are limited by ``device.config``.
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
    for name, array in (("q", q), ("k", k), ("v", v)):
        _check_array(name, array)
    _check_shapes(q, k, v)
    factor = _scale_to_base_2(scale, q.shape[-1])
    if not isinstance(out_dtype, str) or out_dtype not in OUTPUT_BYTES:
        raise ValueError(f"out_dtype must be 'bfloat16' or 'float32', not {out_dtype!r}")
    if timeout is not None:
        if not isinstance(timeout, (int, float)) or isinstance(timeout, bool):
            raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
        if not timeout > 0:
            raise ValueError(f"timeout must be greater than 0, not {timeout!r}")
    if progress is not None and not callable(progress):
        raise TypeError(f"progress must be a function or None, not {progress!r}")
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")

    leading = q.shape[:-2]
    heads = leading[-1] if leading else 1
    batch = math.prod(leading[:-1])
    if device is None:
        with open_device("model", "small", memory_bytes=_room(q, k, v, OUTPUT_BYTES[out_dtype])) as opened:
            return attention(q, k, v, scale, opened, out_dtype, timeout, progress, program)
    driver = device.driver
    _check_head_dims(device, q.shape[-1], v.shape[-1])
    if program is not None:
        _check_program(program, device, q.shape[-1], v.shape[-1])
    q_bits, k_bits, v_bits = (
        _to_bits(name, array).reshape(batch, heads, *array.shape[-2:]) for name, array in (("q", q), ("k", k), ("v", v))
    )
    result = driver.attention(
        *(q_bits, k_bits, v_bits, factor),
        float32_out=out_dtype == "float32",
        timeout=timeout,
        progress=progress,
        program=program,
    )
    return result.reshape(*leading, q.shape[-2], v.shape[-1])


def _check_array(name: str, array: object) -> None:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be an array, not {type(array).__name__}")
    if array.dtype not in (np.dtype(np.float32), np.dtype(ml_dtypes.bfloat16)):
        raise TypeError(f"{name} must be float32 or bfloat16, not {array.dtype}")
    if array.ndim < 2:
        raise ValueError(f"{name} must have at least 2 axes, length and head dim, not shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must have at least one element, not shape {array.shape}")


def _check_shapes(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any]) -> None:
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise ValueError(f"the leading axes of q, k and v must be equal, not {q.shape[:-2]}, {k.shape[:-2]} and {v.shape[:-2]}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"the head dim of k must be that of q, {q.shape[-1]}, not {k.shape[-1]}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"the length of v must be that of k, {k.shape[-2]}, not {v.shape[-2]}")


def _check_head_dims(device: Device, e: int, f: int) -> None:
    config = device.config
    for what, value, limit in (("q and k", e, config.max_e), ("v", f, config.max_f)):
        if value > limit:
            raise ValueError(f"the head dim of {what} must be at most {limit} on {config.name!r}, not {value}")


def _check_program(program: object, device: Device, e: int, f: int) -> None:
    if not isinstance(program, Program):
        raise TypeError(f"program must be a Program or None, not {program!r}")
    if program.config != device.config:
        raise ValueError(f"program must be for {device.config.name!r}, as the device is, not for {program.config.name!r}")
    if (program.e, program.f) != (e, f):
        raise ValueError(f"program must be for head dims {e} and {f}, as q and v have, not {program.e} and {program.f}")
    _check_rules(program)


@lru_cache(maxsize=64)
def _check_rules(program: Program) -> None:
    check(program.microwords, program.config, program.e, program.f)


def _scale_to_base_2(scale: float | None, e: int) -> np.float32:
    """Factor of the queries: the softmax scale times log2(e), as float32."""
    if scale is None:
        scale = 1 / math.sqrt(e)
    if not isinstance(scale, (int, float, np.floating, np.integer)) or isinstance(scale, bool):
        raise TypeError(f"scale must be a number or None, not {scale!r}")
    factor = float(scale) * math.log2(math.e)
    limits = np.finfo(np.float32)
    if not float(limits.smallest_normal) <= abs(factor) <= float(limits.max):
        raise ValueError(
            f"scale must be a finite number other than zero whose product with log2(e) is a normal float32, not {scale!r}"
        )
    return np.float32(factor)


def _to_bits(name: str, array: NDArray[Any]) -> NDArray[np.uint16]:
    """bfloat16 bits of an array.

    Raises
    ------
    NonFiniteError
        If a number is infinite, not a number, or rounded to infinity.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        bits = np.ascontiguousarray(array.astype(ml_dtypes.bfloat16)).view(np.uint16)
    wrong = np.flatnonzero((bits & 0x7F80) == 0x7F80)
    if wrong.size:
        place = tuple(int(index) for index in np.unravel_index(wrong[0], array.shape))
        raise NonFiniteError(f"{name} must be finite in bfloat16, not {array[place]} at {place}")
    return bits


def _room(q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], output_bytes: int) -> int:
    """Memory of a device that is opened for one call."""
    config = config_named("small")
    shape = (math.prod(q.shape[:-2]), 1, q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1])
    return max(MEMORY_BYTES, required_bytes(config, shape, output_bytes))

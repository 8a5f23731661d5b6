"""Softmax attention with a learned key and value: K-bias, KV-bias, sink token, V-bias."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..api.attention import attention
from ..runtime.argument_checks import numbers_of
from ..runtime.device import Device
from ..runtime.operands import as_filled_array
from ..runtime.options import SweepOptions
from ..runtime.softmax_state import State

__all__ = ["biased_attention"]


def biased_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    k_bias: ArrayLike | None = None,
    v_bias: ArrayLike | None = None,
    output_bias: ArrayLike | None = None,
    scale: float | ArrayLike | None = None,
    device: Device | None = None,
    **options: Unpack[SweepOptions],
) -> NDArray[Any]:
    """Compute softmax attention with one more key and value per head, which every query sees whatever the mask.

    A = softmax(scale · q [k*, k]ᵀ), output A [v*, v] + b*. Gu et al., When Attention Sink Emerges (arXiv 2410.10781),
    section 7: K-bias is k* with v* = 0; KV-bias is k* and v*; a sink token is the same, with the key and value of the learned
    token; V-bias is b* alone. The paper's code puts the key in front of the others and shifts the causal mask by one place.
    The key costs no cycle: the host merges it as the state that the softmax begins with.

    Parameters
    ----------
    q, k, v : arrays (..., P, E), (..., M, E), (..., M, F)
        As :func:`fusemax.attention`'s.
    k_bias
        (heads, E) of the query heads, or (E,) for one that all heads share; none if not given.
    v_bias
        (heads, F) or (F,), likewise; zeros if not given. Needs ``k_bias``.
    output_bias
        (heads, F) or (F,), added to the output in float64 before it is rounded.
    scale, device, options
        As :func:`fusemax.attention`'s, ``out_dtype`` included; not ``temperature``, ``state``.

    Returns
    -------
    array (..., P, F)
        Of ``ml_dtypes.bfloat16`` or ``float32``.

    Raises
    ------
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.
    """
    for name in ("temperature", "state"):
        if name in options:
            raise TypeError(f"biased_attention() got an unexpected keyword argument {name!r}")
    q, k, v = (as_filled_array(name, array) for name, array in (("q", q), ("k", k), ("v", v)))
    heads = q.shape[-3] if q.ndim > 2 else 1
    if k_bias is None:
        if v_bias is not None:
            raise ValueError("k_bias must be given with v_bias: a value without a key has no weight")
        state = None
    else:
        keys = _per_head("k_bias", k_bias, heads, q.shape[-1])
        values = _per_head("v_bias", np.zeros(v.shape[-1]) if v_bias is None else v_bias, heads, v.shape[-1])
        state = State.key_value_bias(q if q.ndim > 2 else q[None], keys, values, scale)
        if q.ndim == 2:
            state = State(state.max[0], state.denominator[0], state.numerator[0])
    options = {**options, "state": state}
    if output_bias is None:
        return attention(q, k, v, scale, device, **options)
    added = _per_head("output_bias", output_bias, heads, v.shape[-1])
    _, found = attention(q, k, v, scale, device, return_state=True, **options)
    seen = np.broadcast_to(found.denominator, found.shape[:-1])[..., None].astype(np.float64)
    added = added[:, None] if q.ndim > 2 else added
    total = found.numerator + seen * added
    return State(found.max, found.denominator, total.astype(np.float32)).output(options.get("out_dtype", "bfloat16"))


def _per_head(name: str, value: ArrayLike, heads: int, size: int) -> NDArray[np.float64]:
    numbers = numbers_of(value)
    if numbers is None:
        raise TypeError(f"{name} must be an array of numbers or None, not {value!r}")
    if numbers.shape not in ((size,), (heads, size)):
        raise ValueError(f"{name} must be of shape {(size,)} or {(heads, size)}, not {numbers.shape}")
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, but is not")
    return np.broadcast_to(numbers.astype(np.float64), (heads, size))

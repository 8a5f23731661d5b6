"""Linear attention: weights that are products of features of queries and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cascade.builtins import MAPS
from ..plan.array import Array, array_of
from ..plan.parts import bfloat16
from ..runtime.argument_checks import numbers_of
from ..runtime.device import Counters, Device
from .causal_product import causal_product
from .checks import check_choice, check_parts, check_qkv, check_square, repeat_heads, softmax_scale

__all__ = ["linear_attention"]


def linear_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    kernel: str = "elu1",
    normaliser: str | None = "sum",
    causal: bool = True,
    weights: tuple[NDArray[Any], NDArray[Any]] | None = None,
    chunk: int | None = None,
    parts: int = 2,
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
) -> NDArray[np.float32]:
    """Compute attention with the weights scale · φ(q) φ(k)ᵀ.

    Kernels of Gu et al., When Attention Sink Emerges (arXiv 2410.10781), section 7.2 and table 4: ``elu1``, φ(x) = elu(x) + 1
    (Katharopoulos et al., arXiv 2006.16236); ``identity``; ``mlp``, φ(x) = relu(x W₁) W₂, the same for queries and keys. The
    public code applies the last behind the rotary positions and divides by max(\\|Σ\\|, 1) or not at all; to the sum of
    ``elu1`` it adds 1e-8.

    Sums of weights, which are a product of a query with a sum of keys, are the host's, in float64. So are the features, but for
    the products of ``mlp``, which grow as n · d².

    Parameters
    ----------
    q, k, v : arrays (..., P, E), (..., M, E), (..., M, F)
        As :func:`fusemax.attention`'s; of equal length if ``causal``.
    kernel
        ``elu1``, ``identity`` or ``mlp``.
    normaliser
        ``sum`` of the weights, ``max1`` for max(\\|Σ\\|, 1), or None for 1.
    causal
        A query sees the keys up to its own place.
    weights
        W₁ (E, H) and W₂ (H, D) of ``mlp``, or with the axis of the query heads in front.
    chunk
        With ``causal``, tokens that attend to each other by products of queries and keys; to earlier tokens they attend by a
        state, as without the mask. None for all: so many products of pairs are more work from some hundreds of tokens on.
    parts
        bfloat16 numbers that a feature is split into if it is not one already: 2 for errors of 1e-5, 1 for some 4e-4.
    scale
        Factor of the weights; 1/√E if not given.
    device, counters
        See :mod:`fusemax.attentions`. The machine needs the option ``linear``, but for ``elu1`` without a mask.

    Returns
    -------
    float32 array (..., P, F)

    Raises
    ------
    MissingOptionError
        If the machine was made without the option. A ValueError too.
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.
    """
    check_choice("kernel", kernel, ("elu1", "identity", "mlp"))
    if normaliser is not None:
        check_choice("normaliser", normaliser, ("sum", "max1"))
    check_parts(parts)
    if (kernel == "mlp") != (weights is not None):
        raise ValueError(f"weights must be given for 'mlp' and nothing else, not for {kernel!r}")
    queries, keys, values = check_qkv(q, k, v)
    factor = softmax_scale(scale, queries.shape[-1])
    keys, values = repeat_heads(keys, queries), repeat_heads(values, queries)
    if causal:
        check_square(queries, keys)
    with array_of(device, counters) as array:
        if kernel == "elu1":
            queries, keys = (MAPS["elu1"].compute(x) for x in (queries, keys))
        elif weights is not None:
            queries, keys = (_perceptron(array, x, weights, parts) for x in (queries, keys))
        if parts == 1:
            # Rounded for the sums of weights too: what rounding does to weights and to their sum is the same then.
            queries, keys = bfloat16(queries), bfloat16(keys)
        if causal:
            out = causal_product(array, queries, keys, values, parts=parts, chunk=chunk)
        else:
            out = array.product(queries, array.product(keys.swapaxes(-1, -2), values, parts), parts)
    if normaliser is None:
        return (factor * out).astype(np.float32)
    totals = keys.cumsum(axis=-2) if causal else keys.sum(axis=-2, keepdims=True)
    total = factor * (queries * totals).sum(axis=-1, keepdims=True)
    divisor = total if normaliser == "sum" else np.maximum(np.abs(total), 1)
    return (factor * out / np.where(divisor == 0, 1, divisor)).astype(np.float32)


def _perceptron(
    array: Array, x: NDArray[np.float64], weights: tuple[NDArray[Any], NDArray[Any]], parts: int
) -> NDArray[np.float64]:
    """relu(x W₁) W₂, both products on the array."""
    first, second = (_matrix(name, w) for name, w in zip(("W₁", "W₂"), weights, strict=True))
    if first.shape[-2] != x.shape[-1] or second.shape[-2] != first.shape[-1]:
        raise ValueError(f"weights must be (E, H) and (H, D) for E = {x.shape[-1]}, not {first.shape} and {second.shape}")
    hidden = np.maximum(array.product(x, np.broadcast_to(first, (*x.shape[:-2], *first.shape[-2:])), parts), 0)
    return array.product(hidden, np.broadcast_to(second, (*x.shape[:-2], *second.shape[-2:])), parts)


def _matrix(name: str, value: object) -> NDArray[np.float64]:
    numbers = numbers_of(value)
    if numbers is None or numbers.ndim not in (2, 3):
        raise TypeError(f"{name} of weights must be a matrix of numbers, or one for each head, not {value!r}")
    return bfloat16(numbers)

"""Attention with a sigmoid instead of the softmax."""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..plan.array import array_of
from ..runtime.device import Counters, Device
from ..runtime.options import SweepOptions
from .checks import check_options, check_qkv, softmax_scale

__all__ = ["sigmoid_attention"]


def sigmoid_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    bias: float = 0.0,
    normalised: bool = False,
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
    **options: Unpack[SweepOptions],
) -> NDArray[np.float32]:
    """Compute σ(scale · q kᵀ + bias) v.

    Gu et al., When Attention Sink Emerges (arXiv 2410.10781), section 7.2 and table 4: without normalisation the weights of a
    query have no sum that they must reach, and the sink on the first token is gone. ``normalised`` divides by Σ σ; the public
    code adds 1e-8 to that sum, which is less than float32 sees. A bias of -log n makes the weights' sum about 1 at the start of
    training.

    Parameters
    ----------
    q, k, v : arrays (..., P, E), (..., M, E), (..., M, F)
        As :func:`fusemax.attention`'s.
    bias
        Added to the scores; other than 0 it takes two more elements of queries and keys.
    normalised
        Divide by the sum of a query's weights.
    scale
        Factor of the scores; 1/√E if not given.
    device, counters
        See :mod:`fusemax.attentions`. The machine needs the option ``functions``.
    options
        ``causal``, ``window``, ``query_offset``, ``prefix`` and ``key_lengths``, as :func:`fusemax.attention`'s.

    Returns
    -------
    float32 array (..., P, F)
        Zeros where a query sees no key.

    Raises
    ------
    MissingOptionError
        If the machine was made without the option. A ValueError too.
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.
    """
    check_options("sigmoid_attention", options)
    queries, keys, values = check_qkv(q, k, v)
    factor = softmax_scale(scale, queries.shape[-1])
    with array_of(device, counters) as array:
        out = array.weighted("sigmoid", queries, keys, values, factor, bias=float(bias), normalised=normalised, **options)
    return out.astype(np.float32)

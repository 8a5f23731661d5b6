"""Attention whose weights are elu + 1 of the scores."""

from __future__ import annotations

from typing import Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..cascade.builtins import MAPS
from ..plan.array import Array, array_of, score_bound
from ..runtime.device import Counters, Device
from ..runtime.options import SweepOptions
from .checks import check_choice, check_options, check_qkv, repeat_heads, softmax_scale

__all__ = ["elu_attention"]

#: Largest score of one sweep: it has a fixed point, and one exponential.
MOST_SCORE = 20.0

#: Least mean weight of a query for which one sweep's fixed point is exact enough: its error is 7e-5 over the weights' size.
LEAST_MEAN = 0.8


def elu_attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    normalised: bool = False,
    form: str = "auto",
    scale: float | None = None,
    device: Device | None = None,
    counters: list[Counters] | None = None,
    **options: Unpack[SweepOptions],
) -> NDArray[np.float32]:
    """Compute (elu(scale · q kᵀ) + 1) v.

    elu(x) + 1 is x + 1 for x > 0, else exp(x). Gu et al., When Attention Sink Emerges (arXiv 2410.10781), section 7.2 and
    table 4; ``normalised`` divides by the sum of the weights, to which the public code adds 1e-8.

    One sweep has weights in fixed point, with an error of 7e-5 of a weight of 1. If all of a query's scores are far below 0 its
    weights are not much more than that. Then there are two sweeps, exp(min(x, 0)) and max(x, 0), each exact by itself. ``auto``
    takes two if the mean weight of a query may be below 0.8: elu + 1 is convex, so it is at least that of the mean score, which
    the host knows from the keys' mean. It takes two too if a score may be above 20.

    Parameters
    ----------
    q, k, v : arrays (..., P, E), (..., M, E), (..., M, F)
        As :func:`fusemax.attention`'s.
    normalised
        Divide by the sum of a query's weights.
    form
        ``one`` or ``two`` sweeps, or ``auto``.
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
    ValueError
        If ``one`` is asked for and a score may be above 20.
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.
    """
    check_options("elu_attention", options)
    check_choice("form", form, ("auto", "one", "two"))
    queries, keys, values = check_qkv(q, k, v)
    factor = softmax_scale(scale, queries.shape[-1])
    bound = abs(factor) * score_bound(queries, keys)
    if form == "one" and bound > MOST_SCORE:
        raise ValueError(f"form must be 'two' or 'auto' for scores that may be above {MOST_SCORE:g}, here {bound:.4g}")
    if form == "auto":
        least = _least_mean_weight(queries, keys, factor, options)
        form = "one" if bound <= MOST_SCORE and least >= LEAST_MEAN else "two"
    with array_of(device, counters) as array:
        if form == "one":
            out = array.weighted("elu1", queries, keys, values, factor, bound=bound, normalised=normalised, **options)
        else:
            out = _two_sweeps(array, queries, keys, values, factor, bound, options, normalised=normalised)
    return out.astype(np.float32)


def _two_sweeps(
    array: Array,
    q: NDArray[np.float64],
    k: NDArray[np.float64],
    v: NDArray[np.float64],
    scale: float,
    bound: float,
    options: SweepOptions,
    *,
    normalised: bool,
) -> NDArray[np.float64]:
    """exp(min(x, 0)) and max(x, 0), with a column of ones for the sum if it is wanted."""
    if normalised:
        v = np.concatenate([v, np.ones((*v.shape[:-1], 1))], axis=-1)
    out = array.weighted("exp_min", q, k, v, scale, **options)
    out = out + array.weighted("relu", q, k, v, scale, bound=bound, **options)
    if not normalised:
        return out
    total = out[..., -1:]
    return np.where(total > 0, out[..., :-1] / np.where(total > 0, total, 1), 0)


def _least_mean_weight(q: NDArray[np.float64], k: NDArray[np.float64], scale: float, options: SweepOptions) -> float:
    """A bound from below of the least mean weight of a query's keys; 0 for masks that the host does not look into."""
    keys = repeat_heads(k, q)
    if set(options) - {"causal"}:
        return 0.0
    if not options.get("causal", False):
        mean = keys.mean(axis=-2, keepdims=True)
    else:
        count = np.minimum(np.arange(q.shape[-2]), keys.shape[-2] - 1)
        mean = (keys.cumsum(axis=-2) / np.arange(1, keys.shape[-2] + 1)[:, None])[..., count, :]
    return float(MAPS["elu1"].compute(scale * (q * mean).sum(axis=-1)).min())

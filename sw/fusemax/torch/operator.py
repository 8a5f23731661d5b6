"""Attention as an operator that PyTorch's compiler and exporter see as one node."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..api.attention import attention
from ..runtime.device_numbers import device_of
from ..runtime.mask_intervals import pair_options
from .tensors import array_of, tensor_of

__all__ = ["attention_operator"]


@torch.library.custom_op("fusemax::attention", mutates_args=(), device_types="cpu")
def attention_operator(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    sink: torch.Tensor | None,
    alibi_slopes: torch.Tensor | None,
    causal: bool,
    window: int,
    scale: float | None,
    softcap: float | None,
    device: int,
) -> torch.Tensor:
    """Compute attention on a device; forward only.

    Parameters
    ----------
    query, key, value
        (..., query heads, P, E), (..., heads, M, E), (..., heads, M, F) of one type; the result is of that type.
    mask
        Boolean, broadcasts to (..., query heads, P, M); True is seen.
    bias
        Floating-point, broadcasts likewise: added to the scores. Minus infinity, and the lowest number of its type, is not
        seen.
    sink
        A score per query head, with a value of zero.
    alibi_slopes
        One per query head; see :func:`fusemax.attention`.
    causal
        Query i sees keys up to i.
    window
        With ``causal``, keys that a query sees, its own among them; 0 for all.
    scale, softcap
        See :func:`fusemax.attention`.
    device
        The number of one, or 0.
    """
    shape = *torch.broadcast_shapes(query.shape[:-3], key.shape[:-3]), *query.shape[-3:-1], key.shape[-2]
    seen, biases = (None if each is None else array_of(each) for each in (mask, bias))
    if causal and (mask is not None or bias is not None):
        own = _window(window, *shape[-2:])
        seen = own if seen is None else seen & own
        options = pair_options(seen, biases, shape)
    else:
        options = pair_options(seen, biases, shape) | ({"causal": True, "window": (window - 1, -1)} if causal else {})
    for name, vector in (("sink", sink), ("alibi_slopes", alibi_slopes)):
        if vector is not None:
            options[name] = array_of(vector.float())
    if softcap is not None:
        options["softcap"] = softcap
    out = attention(
        *(array_of(tensor) for tensor in (query, key, value)),
        scale=scale,
        device=device_of(device),
        out_dtype="bfloat16" if query.dtype == torch.bfloat16 else "float32",
        **options,
    )
    return tensor_of(out, query.dtype)


def _window(window: int, queries: int, keys: int) -> NDArray[np.bool_]:
    """Causal mask, with at most ``window`` keys if it is not 0."""
    causal = np.tri(queries, keys, dtype=np.bool_)
    return causal & ~np.tri(queries, keys, -window, dtype=np.bool_) if window else causal


@attention_operator.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any) -> torch.Tensor:
    batch = torch.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])
    return query.new_empty((*batch, *query.shape[-3:-1], value.shape[-1]))


@torch.library.custom_op("fusemax::no_gradient", mutates_args=(), device_types="cpu")
def _no_gradient(gradient: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    raise NotImplementedError(
        "fusemax computes attention forward only and has no gradient: run the model under torch.no_grad(), or detach its inputs"
    )


@_no_gradient.register_fake
def _(gradient: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(like)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
    """Gradients by an operator that refuses when it is run, so that a graph that is never run backward can be traced."""
    return (*(_no_gradient(gradient, each) for each in ctx.saved_tensors), *(None,) * 9)


attention_operator.register_autograd(_backward, setup_context=_keep)

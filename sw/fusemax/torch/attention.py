"""PyTorch's scaled_dot_product_attention on a device."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch

from ..runtime.device import Device
from .operator import attention_operator

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    device: Device | None = None,
) -> torch.Tensor:
    """Compute attention with the arguments and the meaning of ``torch.nn.functional.scaled_dot_product_attention``.

    Numbers are rounded to bfloat16 once, and the result is of the queries' type: from a bfloat16 result if it is bfloat16, else
    from a float32 result. It is an operator of ``torch.library``, one node for ``torch.compile`` and ``torch.export``, and
    forward only: ``backward`` raises NotImplementedError.

    Parameters
    ----------
    query : tensor (..., query heads, P, E)
        Queries on the CPU, float16, bfloat16, float32 or float64, with any strides; the heads may be missing.
    key, value : tensors (..., heads, M, E) and (..., heads, M, F)
        Keys and values of the same type. Axes in front of the lengths broadcast.
    attn_mask
        Boolean, True takes part, or floating-point, added to the scores; broadcasts to (..., query heads, P, M). Masks that are
        an interval of keys for each query, such as padding and windows, cost nothing.
    dropout_p
        0: nothing is dropped.
    is_causal
        Query i sees keys up to i, whatever the numbers of both; not with ``attn_mask``.
    scale
        Factor of the scores, 1/√E if not given.
    enable_gqa
        The query heads may be a multiple of the heads.
    device
        Where to run; if not given, a model device is opened for this call.

    Returns
    -------
    tensor (..., query heads, P, F)
        Contiguous. Rows of queries that see no key are zeros.

    Raises
    ------
    TypeError, ValueError, DeviceError
        If an argument is not as above; as :func:`fusemax.attention`.

    References
    ----------
    https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    """
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")
    if dropout_p:
        raise ValueError(f"dropout_p must be 0, since nothing is dropped here, not {dropout_p!r}")
    if is_causal and attn_mask is not None:
        raise ValueError("attn_mask must not be given with is_causal")
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if tensor.dtype != query.dtype:
            raise ValueError(
                f"query, key and value must be of one type, but query is {query.dtype} and {name} is {tensor.dtype}"
            )
        if tensor.device.type != "cpu":
            raise ValueError(f"{name} must be on the CPU, not on {tensor.device}")
        if tensor.ndim < 2:
            raise ValueError(f"{name} must have at least 2 axes, length and head dim, not shape {tuple(tensor.shape)}")
    axes = max(3, query.ndim, key.ndim, value.ndim)
    out_axes = max(query.ndim, key.ndim, value.ndim)
    query, key, value = (tensor[(None,) * (axes - tensor.ndim)] for tensor in (query, key, value))
    query, key, value = _share_heads(query, key, value, enable_gqa=enable_gqa)
    mask = bias = None
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            mask = attn_mask
        elif attn_mask.dtype.is_floating_point:
            bias = attn_mask
        else:
            raise TypeError(f"attn_mask must be boolean or of floating-point numbers, not {attn_mask.dtype}")
    number = 0 if device is None else device.number
    out = attention_operator(query, key, value, mask, bias, None, None, is_causal, 0, scale, None, number)
    return out if out_axes > 2 else out[0]


def _share_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, enable_gqa: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Heads as the operator wants them: as many of keys as of values, and a multiple of those of queries."""
    heads = [tensor.shape[-3] for tensor in (query, key, value)]
    if not enable_gqa:
        try:
            (common,) = torch.broadcast_shapes(*((count,) for count in heads))
        except RuntimeError:
            raise ValueError(
                f"heads of query, key and value must broadcast without enable_gqa, not be {heads[0]}, {heads[1]} and {heads[2]}"
            ) from None
        query = query.expand(*query.shape[:-3], common, -1, -1)
    elif any(not count or heads[0] % count for count in heads[1:]):
        raise ValueError(
            f"the heads of query must be a multiple of those of key and value, {heads[1]} and {heads[2]}, not {heads[0]}"
        )
    most = max(heads[1:])
    if most % min(heads[1:]):
        raise ValueError(f"the heads of key and value must be multiples of each other, not {heads[1]} and {heads[2]}")
    key, value = (
        tensor.repeat_interleave(most // tensor.shape[-3], dim=-3) if tensor.shape[-3] != most else tensor
        for tensor in (key, value)
    )
    return query, key, value

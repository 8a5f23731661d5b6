"""An attention function as the transformers library calls it."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import torch

from ..torch.operator import attention_operator

__all__ = ["attention_forward"]


def attention_forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    alibi_slopes: torch.Tensor | None = None,
    *,
    device: int = 0,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute a layer's attention on a device.

    Parameters
    ----------
    module
        The layer; ``is_causal`` of it counts if neither a mask nor the argument of that name is given.
    query, key, value
        (batch, query heads, P, E), (batch, heads, M, E) and (batch, heads, M, F).
    attention_mask
        Boolean, True is seen, or added to the scores; broadcasts to (batch, query heads, P, M or more).
    sliding_window
        Keys that a query sees, its own among them. In a mask it is contained already.
    softcap, s_aux
        Cap of the scores, and sinks: a score per query head with a value of zero.
    position_bias
        Added to the scores, too.
    device
        The number of one, or 0.

    Returns
    -------
    tuple
        (batch, P, query heads, F) and no weights.

    Raises
    ------
    ValueError, NotImplementedError
        If dropout or weights are asked for, or it cannot be known where the queries stand.
    """
    if dropout:
        raise ValueError(f"dropout must be 0, since nothing is dropped here, not {dropout!r}: use model.eval()")
    if others.get("output_attentions"):
        raise NotImplementedError("output_attentions must be False: attention on the device gives no weights here")
    keys = key.shape[-2]
    causal, window = False, 0
    mask = bias = None
    if attention_mask is None:
        causal, mask = _without_mask(module, query.shape[-2], keys, is_causal, sliding_window)
        window = (sliding_window or 0) if causal else 0
    elif attention_mask.dtype == torch.bool:
        mask = attention_mask[..., :keys]
    else:
        bias = attention_mask[..., :keys]
    if position_bias is not None:
        position_bias = position_bias[..., :keys]
        bias = position_bias if bias is None else bias + position_bias
    sink = None if s_aux is None else s_aux.reshape(-1)
    out = attention_operator(query, key, value, mask, bias, sink, alibi_slopes, causal, window, scaling, softcap, device)
    return out.transpose(1, 2).contiguous(), None


def _without_mask(
    module: torch.nn.Module, queries: int, keys: int, is_causal: bool | None, sliding_window: int | None
) -> tuple[bool, torch.Tensor | None]:
    """Whether queries are causal, by place, and a mask, where the library gives none."""
    causal = getattr(module, "is_causal", False) if is_causal is None else is_causal
    if not causal:
        if sliding_window:
            raise ValueError("attention_mask must be given with sliding_window if attention is not causal")
        return False, None
    if queries == keys:
        return True, None
    if queries != 1:
        raise ValueError(
            f"attention_mask must be given for {queries} causal queries and {keys} keys: where the queries stand is not known"
        )
    if sliding_window and sliding_window < keys:
        return False, torch.arange(keys) >= keys - sliding_window
    return False, None

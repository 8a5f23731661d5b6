"""MultiHeadAttention of ONNX Runtime."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from ..runtime.device import Device
from .heads import Terms, attend, join_heads, split_heads, visible

__all__ = ["MultiHeadAttention"]

Array = NDArray[Any]


class MultiHeadAttention(OpRun):
    """The operator of domain ``com.microsoft``, version 1.

    What a mask leaves out is not seen at all, where ONNX Runtime adds ``mask_filter_value`` to its score: only a query that
    sees no key at all has another result, zeros.
    """

    op_domain = "com.microsoft"
    device: Device | None = None

    def _run(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        bias: Array | None = None,
        key_padding_mask: NDArray[np.integer] | None = None,
        attention_bias: Array | None = None,
        past_key: Array | None = None,
        past_value: Array | None = None,
        past_sequence_length: Array | None = None,
        cache_indirection: Array | None = None,
        num_heads: int | None = None,
        mask_filter_value: float | None = None,
        scale: float | None = None,
        unidirectional: int | None = None,
    ) -> tuple[Array, ...]:
        for name, given in (("past_sequence_length", past_sequence_length), ("cache_indirection", cache_indirection)):
            if given is not None:
                raise NotImplementedError(f"MultiHeadAttention must be without the input {name}")
        outputs = len(self.onnx_node.output)
        if outputs > 3:
            raise NotImplementedError("MultiHeadAttention must be without the output qk")
        if not num_heads:
            raise ValueError("num_heads must be given")
        q, k, v = _heads(query, key, value, bias, num_heads)
        past = 0
        if past_key is not None and past_value is not None:
            past = past_key.shape[2]
            k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        batch, _, queries, _ = q.shape
        keys = k.shape[2]
        terms = Terms(bias=attention_bias, options={"scale": scale or None})
        if key_padding_mask is not None:
            terms.see(_padding(key_padding_mask, batch, keys))
        if unidirectional:
            terms.see(visible(np.broadcast_to(past + np.arange(queries), (batch, queries)), keys, right=0))
        return (join_heads(attend(q, k, v, terms, self.device)), k, v)[:outputs]


def _heads(query: Array, key: Array | None, value: Array | None, bias: Array | None, heads: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values (batch, heads, length, head dim), their projections' biases added."""
    if query.ndim == 5:
        packed = [query[:, :, :, part] for part in range(3)]
    elif key is not None and key.ndim == 5:
        packed = [query, key[:, :, :, 0], key[:, :, :, 1]]
    elif key is None or value is None:
        raise ValueError("key and value must be given, or packed with the queries or with each other")
    else:
        packed = [query, key, value]
    by_head = []
    for array, name in zip(packed, "qkv", strict=True):
        if array.ndim == 3:
            by_head.append(split_heads(array, heads))
        elif array is key or array is value:
            by_head.append(array)  # Of a cache: heads in front of lengths.
        elif array.ndim == 4:
            by_head.append(array.swapaxes(1, 2))
        else:
            raise ValueError(f"the {name} input must have 3 to 5 axes, not {array.ndim}")
    if bias is not None:
        # Of queries, keys and values, as far as they come from a projection.
        start = 0
        for number, array in enumerate(by_head):
            size = heads * array.shape[3]
            by_head[number] = array + bias[start : start + size].reshape(heads, 1, -1)
            start += size
    q, k, v = by_head
    return q, k, v


def _padding(mask: NDArray[np.integer], batch: int, keys: int) -> NDArray[np.bool_]:
    """Keys that are seen, by any of the forms of ``key_padding_mask``; broadcasts to (batch, 1, P, M)."""
    if mask.ndim == 1:
        # Lengths, perhaps with cumulative ones behind them.
        if mask.size not in (batch, 3 * batch + 2):
            raise ValueError(f"key_padding_mask must have {batch} or {3 * batch + 2} lengths, not {mask.size}")
        return np.arange(keys) < mask[:batch, None, None, None]
    return (mask[:, None, None] if mask.ndim == 2 else mask[:, None]) != 0

"""GroupQueryAttention of ONNX Runtime."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from ..runtime.device import Device
from .heads import Terms, attend, join_heads, split_heads, visible

__all__ = ["GroupQueryAttention"]

Array = NDArray[Any]


class GroupQueryAttention(OpRun):
    """The operator of domain ``com.microsoft``, version 1: causal, with a cache and rotary embeddings."""

    op_domain = "com.microsoft"
    device: Device | None = None

    def _run(
        self,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        past_key: Array | None = None,
        past_value: Array | None = None,
        seqlens_k: NDArray[np.integer] | None = None,
        total_sequence_length: NDArray[np.integer] | None = None,
        cos_cache: Array | None = None,
        sin_cache: Array | None = None,
        position_ids: NDArray[np.integer] | None = None,
        attention_bias: Array | None = None,
        head_sink: Array | None = None,
        *more: Array | None,
        num_heads: int | None = None,
        kv_num_heads: int | None = None,
        do_rotary: int | None = None,
        rotary_interleaved: int | None = None,
        local_window_size: int | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        smooth_softmax: int | None = None,
        **others: Any,
    ) -> tuple[Array, ...]:
        refused = [name for name, given in others.items() if given not in (None, 0, b"NONE", "NONE")]
        if refused or any(each is not None for each in more):
            raise NotImplementedError(f"GroupQueryAttention must be without {', '.join(refused) or 'scales of its cache'}")
        outputs = len(self.onnx_node.output)
        if outputs > 3:
            raise NotImplementedError("GroupQueryAttention must be without the output output_qk")
        if not num_heads or not kv_num_heads:
            raise ValueError("num_heads and kv_num_heads must be given")
        if seqlens_k is None or total_sequence_length is None:
            raise ValueError("seqlens_k and total_sequence_length must be given")
        if key is None or value is None:
            size = query.shape[2] // (num_heads + 2 * kv_num_heads)
            query, key, value = np.split(query, [num_heads * size, (num_heads + kv_num_heads) * size], axis=2)
        q, k, v = split_heads(query, num_heads), split_heads(key, kv_num_heads), split_heads(value, kv_num_heads)
        batch, _, queries, _ = q.shape
        lengths = np.broadcast_to(np.asarray(seqlens_k).reshape(-1) + 1, batch)
        total = int(np.asarray(total_sequence_length).reshape(-1)[0])
        # A prompt as a whole may be padded behind its end; later queries are the last ones of their sequences.
        past = np.zeros(batch, np.int64) if queries == total else lengths - queries
        place = past[:, None] + np.arange(queries)
        if do_rotary:
            if cos_cache is None or sin_cache is None:
                raise ValueError("cos_cache and sin_cache must be given with do_rotary")
            at = place if position_ids is None else np.asarray(position_ids)
            turn = cos_cache[at][:, None], sin_cache[at][:, None]
            q, k = (_rotated(x, *turn, interleaved=bool(rotary_interleaved)) for x in (q, k))
        k, v = (_present(old, new, past, total) for old, new in ((past_key, k), (past_value, v)))
        keys = k.shape[2]
        window = local_window_size if local_window_size and local_window_size > 0 else 0
        terms = Terms(bias=attention_bias, options={"scale": scale or None} | ({"softcap": softcap} if softcap else {}))
        if attention_bias is not None:
            behind = [(0, 0)] * (attention_bias.ndim - 1) + [(0, keys - attention_bias.shape[-1])]
            terms.bias = np.pad(attention_bias, behind)
        terms.see(visible(place, keys, window - 1 if window else -1, 0))
        terms.see(np.arange(keys) < lengths[:, None, None, None])
        if head_sink is not None or smooth_softmax:
            terms.options["sink"] = np.zeros(num_heads) if head_sink is None else np.asarray(head_sink, np.float32)
        return (join_heads(attend(q, k, v, terms, self.device)), k, v)[:outputs]


def _present(old: Array | None, new: Array, past: NDArray[np.int64], total: int) -> Array:
    """Cache with the new rows behind those of every sequence; as long as the old one, if that has room for all."""
    room = max(total, 0 if old is None else old.shape[2])
    found = np.zeros((*new.shape[:2], room, new.shape[3]), new.dtype)
    if old is not None:
        found[:, :, : old.shape[2]] = old
    for entry, first in enumerate(past):
        rows = found[entry, :, first : first + new.shape[2]]
        rows[...] = new[entry, :, : rows.shape[1]]
    return found


def _rotated(array: Array, cosine: Array, sine: Array, *, interleaved: bool) -> Array:
    """Rotary embedding of the first elements of every row, as many as both halves have."""
    half = cosine.shape[-1]
    turned, rest = array[..., : 2 * half], array[..., 2 * half :]
    left, right = (turned[..., ::2], turned[..., 1::2]) if interleaved else (turned[..., :half], turned[..., half:])
    parts = left * cosine - right * sine, right * cosine + left * sine
    joined = np.stack(parts, axis=-1).reshape(turned.shape) if interleaved else np.concatenate(parts, axis=-1)
    return np.concatenate([joined, rest], axis=-1).astype(array.dtype)

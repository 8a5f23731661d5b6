"""Attention of ONNX itself."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

from ..runtime.device import Device
from .heads import Terms, attend, join_heads, scores_of, split_heads, visible

__all__ = ["Attention"]

Arrays = tuple[NDArray[Any], ...]
#: Scores of qk_matmul_output_mode; the schema says of 0 that it is the product alone, without the cap.
SCORES = {0: "raw", 1: "capped", 2: "masked"}
WEIGHTS = 3


class Attention(OpRun):
    """The operator of opsets 23 to 25, by its text in onnx 1.23: errata of earlier releases' texts are followed for all opsets.

    Members
    -------
    device
        Where to run.
    """

    op_domain = ""
    device: Device | None = None

    def _run(
        self,
        q: NDArray[Any],
        k: NDArray[Any],
        v: NDArray[Any],
        attn_mask: NDArray[Any] | None = None,
        past_key: NDArray[Any] | None = None,
        past_value: NDArray[Any] | None = None,
        nonpad_kv_seqlen: NDArray[np.int64] | None = None,
        scale: float | None = None,
        is_causal: int | None = None,
        q_num_heads: int | None = None,
        kv_num_heads: int | None = None,
        softmax_precision: int | None = None,
        softcap: float | None = None,
        qk_matmul_output_mode: int | None = None,
        left_window_size: int | None = None,
        right_window_size: int | None = None,
    ) -> Arrays:
        flat = q.ndim == 3
        if flat:
            if not q_num_heads or not kv_num_heads:
                raise ValueError("q_num_heads and kv_num_heads must be given with inputs of 3 axes")
            q, k, v = split_heads(q, q_num_heads), split_heads(k, kv_num_heads), split_heads(v, kv_num_heads)
        past = 0
        if past_key is not None and past_value is not None:
            past = past_key.shape[2]
            k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
        batch, _, queries, _ = q.shape
        keys = k.shape[2]
        terms = Terms(options={"scale": scale} | ({"softcap": softcap} if softcap else {}))
        if attn_mask is not None:
            _add_mask(terms, attn_mask, keys)
        first = np.full(batch, past)
        if nonpad_kv_seqlen is not None:
            lengths = np.asarray(nonpad_kv_seqlen).reshape(-1)
            first = lengths - queries
            terms.see(np.arange(keys) < lengths[:, None, None, None])
        window = [-1 if side is None else side for side in (left_window_size, right_window_size)]
        if is_causal:
            window[1] = 0
        if window != [-1, -1]:
            terms.see(visible(first[:, None] + np.arange(queries), keys, *window))
        mode = qk_matmul_output_mode or 0
        outputs = len(self.onnx_node.output)
        scores: NDArray[Any] = np.zeros(0, q.dtype)
        if outputs > 3 and mode == WEIGHTS:
            out, scores = attend(q, k, v, terms, self.device, return_weights=True)
        else:
            out = attend(q, k, v, terms, self.device)
            if outputs > 3:
                scores = scores_of(q, k, v, terms, self.device, SCORES[mode])
        return (join_heads(out) if flat else out, k, v, scores)[:outputs]


def _add_mask(terms: Terms, mask: NDArray[Any], keys: int) -> None:
    """A boolean mask or a bias; keys behind its end are not seen."""
    boolean = mask.dtype == np.bool_
    behind = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
    mask = np.pad(mask, behind, constant_values=False if boolean else -np.inf)
    if boolean:
        terms.see(mask)
    else:
        terms.bias = mask

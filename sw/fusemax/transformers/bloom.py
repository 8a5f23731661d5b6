"""BLOOM, whose code computes attention by itself instead of asking the library for it."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers.models.bloom import modeling_bloom

__all__ = ["put_bloom_on"]

#: Attention functions by the name of their implementation.
_functions: dict[str, Callable[..., Any]] = {}


class _BloomAttention(modeling_bloom.BloomAttention):
    """Asks for the implementation that its configuration names, if it is one of ours."""

    def __init__(self, config: Any, layer_idx: int | None = None) -> None:
        super().__init__(config, layer_idx)
        self.config = config
        self.is_causal = True
        # Both are what the library's own attention adds and scales by.
        self.register_buffer("slopes", modeling_bloom._get_alibi_slopes(self.num_heads, torch.device("cpu")), persistent=False)

    def forward(
        self,
        hidden_states: torch.Tensor,
        residual: torch.Tensor,
        alibi: torch.Tensor,
        attention_mask: torch.Tensor,
        layer_past: Any = None,
        use_cache: bool = False,
        output_attentions: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        function = _functions.get(self.config._attn_implementation)
        if function is None:
            return super().forward(
                hidden_states, residual, alibi, attention_mask, layer_past, use_cache, output_attentions, **kwargs
            )
        if self.pretraining_tp > 1 and self.slow_but_exact:
            raise NotImplementedError("slow_but_exact must be False with attention on a device")
        query, key, value = self._reshape(self.query_key_value(hidden_states))
        if layer_past is not None:
            key, value = layer_past.update(key, value, self.layer_idx)
        # Slope · place instead of the tensor ``alibi``, which counts from the first key that is no padding: the difference
        # is the same for all keys of a query, and a softmax does not see it.
        out, weights = function(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout.p if self.training else 0.0,
            scaling=self.inv_norm_factor,
            alibi_slopes=self.slopes,
            output_attentions=output_attentions,
        )
        output = self.dense(out.flatten(-2))
        return modeling_bloom.dropout_add(output, residual, self.hidden_dropout, self.training), weights


def put_bloom_on(name: str, function: Callable[..., Any]) -> None:
    """Let BLOOM models that are made from now on use an attention function, if their implementation has this name."""
    _functions[name] = function
    modeling_bloom.BloomAttention = _BloomAttention

"""Attention of PyTorch's tensors on a device. Needs the extra ``torch``; nothing else of fusemax imports it."""

# pyright: reportMissingImports=false

from __future__ import annotations

from .attention import scaled_dot_product_attention
from .operator import attention_operator

__all__ = ["attention_operator", "scaled_dot_product_attention"]

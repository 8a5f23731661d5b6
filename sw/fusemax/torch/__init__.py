"""Attention of PyTorch's tensors on a device. Needs the extra ``torch``; nothing else of fusemax imports it."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from ..runtime.optional import need

need("torch", "torch")

from .attention import scaled_dot_product_attention  # noqa: E402
from .operator import attention_operator  # noqa: E402

__all__ = ["attention_operator", "scaled_dot_product_attention"]

"""The bit-exact model on a GPU: Triton kernels, the device ``cuda``, attention of PyTorch tensors that are there already.

Needs the extra ``cuda``; nothing else of fusemax imports it.
"""

from __future__ import annotations

from ..runtime.optional import need

need("cuda", "torch", "triton")

from .attention import attention  # noqa: E402
from .transport import CudaTransport  # noqa: E402

__all__ = ["CudaTransport", "attention"]

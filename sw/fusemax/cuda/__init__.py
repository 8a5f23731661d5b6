"""The bit-exact model on a GPU: Triton kernels, the device ``cuda``, attention of PyTorch tensors that are there already.

Needs the extra ``cuda``. Nothing else in the package imports it.

Raises
------
MissingExtraError
    When it is imported without PyTorch or Triton.
"""

from __future__ import annotations

from ..errors import MissingExtraError

try:
    from .attention import attention
    from .transport import CudaTransport
except ImportError as error:
    if (error.name or "").partition(".")[0] not in ("torch", "triton"):
        raise
    raise MissingExtraError(f"fusemax.cuda needs PyTorch and Triton: pip install 'fusemax[cuda]' ({error})") from error

__all__ = ["CudaTransport", "attention"]

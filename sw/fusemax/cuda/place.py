"""Where kernels run: the GPU, or the CPU in Triton's interpreter."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import torch

from ..errors import DeviceError
from .rounding import INTERPRETED

__all__ = ["check_place", "default_place"]


def default_place() -> torch.device:
    """Return PyTorch's current GPU, or the CPU if TRITON_INTERPRET=1 was set before Triton was imported.

    Raises
    ------
    DeviceError
        If PyTorch sees no GPU.
    """
    if INTERPRETED.value:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError("the cuda device needs a GPU that PyTorch sees, but torch.cuda.is_available() is False")
    return torch.device("cuda", torch.cuda.current_device())


def check_place(name: str, tensor: torch.Tensor) -> None:
    """Refuse a tensor that kernels cannot reach.

    Raises
    ------
    ValueError
        If it is not on a GPU, or in the interpreter not on the CPU.
    """
    kind = "cpu" if INTERPRETED.value else "cuda"
    if tensor.device.type != kind:
        raise ValueError(f"{name} must be on a {kind} device, not on {tensor.device}")

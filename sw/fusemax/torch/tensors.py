"""Tensors as arrays and back."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["array_of", "tensor_of"]


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """View a tensor on the CPU as an array, of ``ml_dtypes.bfloat16`` if it is of that type."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def tensor_of(array: NDArray[Any], dtype: torch.dtype) -> torch.Tensor:
    """Make a contiguous tensor of an array."""
    array = np.ascontiguousarray(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(dtype)
    return torch.from_numpy(array).to(dtype)

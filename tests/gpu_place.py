"""What tests of the kernels need: PyTorch and Triton, and Triton's interpreter where there is no GPU.

Importing it skips a module's tests where one of the two is missing.
"""

from __future__ import annotations

import os
from typing import Any

import ml_dtypes
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the kernels need PyTorch: pip install 'fusemax[cuda]'")
if not torch.cuda.is_available():
    # Triton looks at it when it is imported.
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton", reason="the kernels need Triton: pip install 'fusemax[cuda]'")

from fusemax import State  # noqa: E402
from fusemax.cuda.place import default_place  # noqa: E402

__all__ = ["INTERPRETER", "PLACE", "all_bits", "tensor"]

#: Mark of a module's tests: older interpreters turn arrays of one element into numbers, which NumPy deprecated.
INTERPRETER = pytest.mark.filterwarnings("ignore:Conversion of an array with ndim > 0:DeprecationWarning")

PLACE = default_place()


def tensor(array: np.ndarray) -> Any:
    """A copy of an array where the kernels run, of the same numbers."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(np.array(array).view(np.int16)).view(torch.bfloat16).to(PLACE)
    return torch.from_numpy(np.array(array)).to(PLACE)


def all_bits(result: Any) -> list[bytes]:
    """The bytes of all arrays and tensors of a result, in order, each behind its type and shape."""
    if isinstance(result, tuple):
        return [one for part in result for one in all_bits(part)]
    if isinstance(result, State):
        return all_bits((result.max, result.denominator, result.numerator))
    kind = str(result.dtype).removeprefix("torch.")
    if isinstance(result, torch.Tensor):
        assert result.device.type == PLACE.type
        result = result.cpu()
        result = result.view(torch.int16).numpy() if result.dtype == torch.bfloat16 else result.numpy()
    return [f"{kind} {result.shape} ".encode() + np.ascontiguousarray(result).tobytes()]

"""bfloat16 arrays through DLPack, whose NumPy importer does not know the type.

The structure is that of DLPack's header dlpack.h, version 0.8 and before: a capsule called "dltensor", which every producer
gives that is not asked for another version (https://dmlc.github.io/dlpack/latest/c_api.html).
"""

from __future__ import annotations

import ctypes
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["copy_bfloat16"]

#: kDLBfloat of DLDataTypeCode.
BFLOAT = 4


class _Tensor(ctypes.Structure):
    """DLTensor; ``device`` and ``dtype`` are DLDevice and DLDataType, spread out."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def copy_bfloat16(value: Any) -> NDArray[Any] | None:
    """Copy a bfloat16 array of the host's memory; None if it holds another type, which NumPy can import.

    Raises
    ------
    BufferError, RuntimeError
        If the producer does not give its memory.
    """
    device_type, _ = value.__dlpack_device__()
    if device_type != 1:  # kDLCPU
        raise BufferError("it is not in the memory of the CPU")
    capsule = value.__dlpack__()
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    # The capsule keeps its name, so that its own destructor frees the tensor.
    tensor = _Tensor.from_address(pointer_of(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (BFLOAT, 16, 1):
        return None
    shape = tensor.shape[: tensor.ndim]
    if 0 in shape:
        return np.empty(shape, ml_dtypes.bfloat16)
    strides = tensor.strides[: tensor.ndim] if tensor.strides else _row_major(shape)
    # Strides are numbers of elements.
    span = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    first = tensor.data + tensor.byte_offset + 2 * sum(step for step in span if step < 0)
    words = (ctypes.c_uint16 * (1 + sum(map(abs, span)))).from_address(first)
    numbers = np.ctypeslib.as_array(words)[-sum(step for step in span if step < 0) :]
    view = np.lib.stride_tricks.as_strided(numbers, shape, [2 * stride for stride in strides])
    return np.array(view).view(ml_dtypes.bfloat16)


def _row_major(shape: list[int]) -> list[int]:
    return [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]

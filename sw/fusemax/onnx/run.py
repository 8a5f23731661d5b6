"""Evaluating a model."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from ..runtime.device import Device
from .attention import Attention
from .grouped import GroupQueryAttention
from .multi_head import MultiHeadAttention

__all__ = ["run"]


def run(
    model: onnx.ModelProto | bytes | str | Path, inputs: Mapping[str, NDArray[Any]], device: Device | None = None
) -> list[NDArray[Any]]:
    """Evaluate an ONNX model; its attention runs on a device, everything else in ONNX's reference evaluator.

    On the device are Attention of opsets 23 to 25, and MultiHeadAttention and GroupQueryAttention of the domain
    ``com.microsoft``, in functions and subgraphs too. They do what the operators' texts say, in the device's precision: inputs
    are rounded to bfloat16, and ``softmax_precision`` has no influence.

    Parameters
    ----------
    model
        A model, its bytes, or the path of its file.
    inputs
        Arrays by the names of the model's inputs.
    device
        Where to run; if not given, a model device is opened for every operator.

    Returns
    -------
    The model's outputs, in its order.

    Raises
    ------
    TypeError
        If an argument is not as above.
    NotImplementedError
        If an operator has an input, output or attribute that the device has nothing for; its name is in the message.
    ValueError, DeviceError
        As :func:`fusemax.attention`.

    References
    ----------
    https://onnx.ai/onnx/operators/onnx__Attention.html and
    https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
    """
    if device is not None and not isinstance(device, Device):
        raise TypeError(f"device must be a Device or None, not {device!r}")
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs must be arrays by name, not {inputs!r}")
    if isinstance(model, Path):
        model = str(model)
    own = [type(each.__name__, (each,), {"device": device}) for each in (Attention, MultiHeadAttention, GroupQueryAttention)]
    return ReferenceEvaluator(model, new_ops=own).run(None, dict(inputs))  # type: ignore[arg-type]

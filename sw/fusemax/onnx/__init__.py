"""ONNX models with their attention on a device. Needs the extra ``onnx``; nothing else of fusemax imports it."""

from __future__ import annotations

from ..runtime.optional import need

need("onnx", "onnx")

from .run import run  # noqa: E402

__all__ = ["run"]

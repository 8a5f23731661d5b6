"""Models of the transformers library with their attention on a device. Needs the extra ``transformers``."""

# pyright: reportMissingImports=false

from __future__ import annotations

from .register import register

__all__ = ["register"]

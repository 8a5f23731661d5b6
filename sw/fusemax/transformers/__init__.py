"""Models of the transformers library with their attention on a device. Needs the extra ``transformers``."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

from ..runtime.optional import need

need("transformers", "torch", "transformers")

from .register import register  # noqa: E402

__all__ = ["register"]

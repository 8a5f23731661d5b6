"""The array: PEs, the feeders on its edges, the lanes below."""

from .array import Array

__all__ = ["Array"]

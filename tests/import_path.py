"""Where this process finds its packages, for one that it starts."""

from __future__ import annotations

import os
import sys

__all__ = ["import_path"]


def import_path() -> str:
    """Value of PYTHONPATH with which another process imports what this one does."""
    return os.pathsep.join(path for path in sys.path if path)

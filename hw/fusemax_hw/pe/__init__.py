"""Processing element."""

from .pe import Pe

__all__ = ["Pe"]

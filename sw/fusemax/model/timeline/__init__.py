"""Timeline of a run: which row is read and which tile issued when, without visiting every cycle."""

from .bus import IdealMemory, MemoryTiming
from .run import Run

__all__ = ["IdealMemory", "MemoryTiming", "Run"]

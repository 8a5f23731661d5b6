"""Models of the machine: what it computes, bit for bit, and how long it takes, cycle for cycle."""

from .bitexact import Result, attention
from .cycles import CycleCounts, cycles

__all__ = ["CycleCounts", "Result", "attention", "cycles"]

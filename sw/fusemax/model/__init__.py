"""Models of the machine: what it computes, bit for bit."""

from .bitexact import Result, attention

__all__ = ["Result", "attention"]

"""Integer arithmetic that sizes are made of."""

from __future__ import annotations

__all__ = ["ceil_div", "clog2"]


def ceil_div(value: int, unit: int) -> int:
    """Divide and round up: how many of ``unit`` hold ``value``."""
    return -(-value // unit)


def clog2(count: int) -> int:
    """Count the bits that number ``count`` things, from 0 on: ⌈log2 count⌉; 0 for one thing or none."""
    return max(count - 1, 0).bit_length()

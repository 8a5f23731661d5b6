"""An operation of a tile with its slot."""

from __future__ import annotations

from dataclasses import dataclass

from .array_program import Operation

__all__ = ["Placed"]


@dataclass(frozen=True)
class Placed:
    """An operation of a tile with its slot.

    Members
    -------
    operation
        What is issued.
    index
        Its number among those of its kind: 0 to E - 1 for QK, 0 to F - 1 for SLNV, else 0.
    offset
        Slot, counted from the tile's start.
    """

    operation: Operation
    index: int
    offset: int

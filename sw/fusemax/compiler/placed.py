"""An operation of a tile with its slot."""

from __future__ import annotations

from dataclasses import dataclass

from .micro import Micro, Operation

__all__ = ["Placed"]


@dataclass(frozen=True)
class Placed:
    """An operation of a tile with its slot.

    Members
    -------
    micro
        What is issued.
    index
        Its number among those of its kind.
    offset
        Slot, counted from the tile's start.
    """

    micro: Micro
    index: int
    offset: int

    @property
    def operation(self) -> Operation:
        """What kind of operation it is."""
        return self.micro.operation

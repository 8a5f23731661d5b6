"""An operation of a tile with its slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .micro import Micro, Operation

__all__ = ["Placed", "in_order"]


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


def in_order(operations: Iterable[tuple[Micro, int]]) -> tuple[Placed, ...]:
    """Number operations, given with their offsets, in the order of their slots; what rides comes before what it rides on."""
    seen: Counter[Operation] = Counter()
    placed = []
    for micro, offset in sorted(operations, key=lambda entry: (entry[1], entry[0].operation.op is not None)):
        placed.append(Placed(micro, seen[micro.operation], offset))
        seen[micro.operation] += 1
    return tuple(placed)

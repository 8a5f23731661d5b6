"""Where every operation of a tile is issued, in slots; it can be drawn."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike

from ..spec import Config
from . import waterfall
from .micro import Operation
from .placed import Placed

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Where every operation of a tile is, in order of offsets.

    Members
    -------
    config
        Machine that it is for.
    e, f
        Head dim of queries and keys, and of values.
    ii
        Initiation interval: a tile starts every ``ii`` slots.
    placed
        Operations of one tile.
    """

    config: Config
    e: int
    f: int
    ii: int
    placed: tuple[Placed, ...]

    @property
    def stages(self) -> int:
        """Iterations that a tile spans."""
        return self.placed[-1].offset // self.ii + 1

    def offset(self, operation: Operation, index: int = 0) -> int:
        """Slot of an operation, counted from its tile's start."""
        return next(p.offset for p in self.placed if p.operation is operation and p.index == index)

    def of(self, operation: Operation) -> tuple[Placed, ...]:
        """Operations of one kind, in order."""
        return tuple(p for p in self.placed if p.operation is operation)

    def plot(self, path: str | PathLike[str], tiles: int = 5) -> None:
        """Draw ``tiles`` overlapping tiles into a file: :func:`fusemax.compiler.waterfall.plot`."""
        waterfall.plot(self, path, tiles)

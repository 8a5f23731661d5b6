"""Kinds of tensors of a tiled cascade, from their ranks alone, and how many points an Einsum is evaluated at."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass

from .cascade import Cascade
from .einsum import Einsum

__all__ = ["Kind", "Space", "Tiles", "kind_of"]


class Kind(enum.Enum):
    """Where a tensor lies, by its ranks; the text is how errors call its ranks."""

    #: No part of the tiles: an input, or what is computed from inputs alone.
    OPERAND = "no index of a tile"
    #: One element per key and query of a tile.
    GRID = "tile, row and column"
    #: One element per query of a tile.
    COLUMN = "tile and column"
    #: A fiber per query of a tile.
    VECTOR = "tile, column and one more"
    #: What is carried from tile to tile.
    STATE = "step of the tiles"
    #: What is computed behind the last tile.
    RESULT = "no index of a tile any more"


@dataclass(frozen=True)
class Tiles:
    """Variables of the tile and of its rows: the two parts of the keys' rank, the outer one iterative."""

    tile: str
    row: str


def kind_of(cascade: Cascade, tiles: Tiles, tensor: str) -> Kind:
    """Find the kind of a tensor.

    Parameters
    ----------
    cascade
        One that declares the tensor.
    tiles
        Its tiles.
    tensor
        An input or the result of an Einsum.
    """
    ranks = {rank.lower() for rank in cascade.ranks_of[tensor]}
    if tensor in cascade.iterative:
        return Kind.STATE
    if tensor in cascade.inputs or tensor in {einsum.result.tensor for einsum in cascade.expressions}:
        return Kind.OPERAND
    if tiles.tile not in ranks:
        return Kind.RESULT
    if tiles.row in ranks:
        return Kind.GRID
    return Kind.COLUMN if len(ranks) == 2 else Kind.VECTOR


@dataclass(frozen=True)
class Space:
    """Points at which an Einsum is evaluated: its variables.

    Members
    -------
    variables
        Those of its result first.
    """

    variables: tuple[str, ...]

    @staticmethod
    def of(einsum: Einsum) -> Space:
        """The space of an Einsum."""
        return Space(einsum.ranks)

    def points(self, shapes: Mapping[str, int]) -> int:
        """How many points there are; ``shapes`` are those of the ranks, in capitals."""
        return math.prod(shapes[variable.upper()] for variable in self.variables)

"""The published design in closed form."""

from __future__ import annotations

from ...spec import ceil_div

__all__ = ["PAPER_ARRAY", "paper_cycles_per_tile", "paper_utilisation"]

#: Rows and columns of the published array.
PAPER_ARRAY = 256


def paper_cycles_per_tile(e: int, f: int, key_tiles: int) -> float:
    """Cycles of a tile in FuseMax's model, configuration "+Binding" (Nayak et al., MICRO 2024).

    max(E + 1, 1 + F + F/M1) + 1 + 8 + F: either the 2D array (QK, maximum) or the 1D array (reference, rescaling, division)
    binds, then exponential, sum and SLNV. It is the closed form that reproduces the tables of the paper's public artifact;
    memory latency, fill and drain are not in it.
    """
    return max(e + 1, 1 + f + f / key_tiles) + 1 + 8 + f


def paper_utilisation(e: int, f: int, keys: int, rows: int = PAPER_ARRAY) -> float:
    """Multiply-accumulates of QK and SLNV over PE-cycles of the published design with ``rows`` rows, full tiles."""
    key_tiles = ceil_div(keys, rows)
    return (e + f) / paper_cycles_per_tile(e, f, key_tiles)

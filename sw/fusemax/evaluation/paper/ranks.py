"""Shapes of the ranks that Einsums iterate over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...spec import ceil_div

__all__ = ["Ranks", "attention_ranks"]


@dataclass(frozen=True)
class Ranks:
    """Shapes by name, as ``{"e": 64, "m1": 4, ...}``; a list of ranks is a string of names, as ``"e m1 m0 p"``.

    Members
    -------
    shapes
        Shape of each rank.
    outer
        Independent repetitions of everything, the ranks that no Einsum names: batch entries times heads.
    partitions
        Pairs of ranks that split another one. If the tail of the split is not full, a list that names both ranks of a pair
        iterates over the elements that there are.
    """

    shapes: Mapping[str, int]
    outer: int = 1
    partitions: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def __getitem__(self, rank: str) -> int:
        if rank not in self.shapes:
            raise ValueError(f"a rank must be one of {', '.join(self.shapes)}, not {rank!r}")
        return self.shapes[rank]

    def count(self, ranks: str) -> int:
        """Points of the iteration space of these ranks, all repetitions together."""
        names = ranks.split()
        for pair, whole in self.partitions.items():
            if set(pair) <= set(names):
                names = [name for name in names if name not in pair] + [whole]
        return self.outer * math.prod(self[name] for name in names)

    def steps(self, ranks: str, space: Mapping[str, int]) -> int:
        """Steps in time that the same points take when the ranks of ``space`` lie on so many places side by side."""
        return self.outer * math.prod(ceil_div(self[name], space.get(name, 1)) for name in ranks.split())


def attention_ranks(*, heads: int, e: int, f: int, queries: int, keys: int, rows: int, columns: int) -> Ranks:
    """Ranks of attention on an array of ``rows`` × ``columns``: E, F, P, M = M1·M0 and the number of query tiles T.

    ``heads`` counts those of all batch entries.
    """
    return Ranks(
        {
            "e": e,
            "f": f,
            "p": queries,
            "t": ceil_div(queries, columns),
            "m": keys,
            "m1": ceil_div(keys, rows),
            "m0": rows,
        },
        outer=heads,
        partitions={("m1", "m0"): "m"},
    )

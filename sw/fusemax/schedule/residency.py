"""Which query tiles stay on chip together."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import Config

__all__ = ["Residency", "residency"]


@dataclass(frozen=True)
class Residency:
    """Tiles of one head and how its query tiles are grouped.

    Members
    -------
    key_tiles, query_tiles
        Tiles of ``rows`` keys and of ``columns`` queries, the last ones perhaps not full.
    last_keys, last_queries
        Keys and queries of the last tiles.
    groups, large_groups, group_tiles
        ``large_groups`` groups of ``group_tiles`` query tiles, then ``groups - large_groups`` groups of one fewer.
    query_slots
        Query tiles that the query banks hold.
    """

    key_tiles: int
    query_tiles: int
    last_keys: int
    last_queries: int
    groups: int
    large_groups: int
    group_tiles: int
    query_slots: int

    @property
    def tiles(self) -> int:
        """Tiles that the array works through: every key tile against every query tile."""
        return self.key_tiles * self.query_tiles

    @property
    def group_iterations(self) -> int:
        """Tiles of a large group."""
        return self.key_tiles * self.group_tiles


def residency(config: Config, e: int, f: int, queries: int, keys: int) -> Residency:
    """Group the query tiles of a head.

    Keys and values are read once per group, so as many query tiles as the chip has room for (P1max: query banks, state
    and reference memories) stay together: T query tiles make G = ceil(T / P1max) groups. The groups are balanced,
    group_tiles = ceil(T / G) and one fewer, since a small last group would wait for its keys and values:
    large_groups = T - G·(group_tiles - 1), which is from 1 to G.
    """
    key_tiles, query_tiles = -(-keys // config.rows), -(-queries // config.columns)
    groups = -(-query_tiles // config.resident_query_tiles(e, f))
    group_tiles = -(-query_tiles // groups)
    return Residency(
        key_tiles=key_tiles,
        query_tiles=query_tiles,
        last_keys=keys - (key_tiles - 1) * config.rows,
        last_queries=queries - (query_tiles - 1) * config.columns,
        groups=groups,
        large_groups=query_tiles - groups * (group_tiles - 1),
        group_tiles=group_tiles,
        query_slots=config.query_bank_beats // config.beats(e),
    )

"""Which query tiles stay on chip together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ..spec import Config, Timing, ceil_div

__all__ = ["Residency", "estimate", "residency"]

#: Groupings whose estimated time is longer than the shortest by less than this share count as equally good.
TOLERANCE = 1 / 512
#: What a burst takes from request to last word if it is short, for the estimate: the host does not know the memory.
LATENCY_CYCLES = 62


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

    @property
    def group_sizes(self) -> dict[int, int]:
        """How many groups there are of which number of query tiles."""
        sizes = {self.group_tiles: self.large_groups, self.group_tiles - 1: self.groups - self.large_groups}
        return {size: count for size, count in sizes.items() if count}


@lru_cache(maxsize=1024)
def residency(
    config: Config,
    e: int,
    f: int,
    queries: int,
    keys: int,
    output_bytes: int = 2,
    *,
    most_tiles: int | None = None,
    values_in_keys: bool = False,
) -> Residency:
    """Group the query tiles of a head (docs/measurements/residency.md).

    Keys and values are read once per group. Of the groupings that the chip has room for, the ones with the shortest
    :func:`estimate` are kept, and of those the one with the largest groups is taken: it reads least and bears the longest
    memory latency. The groups are balanced, since a small last group would wait for its keys and values: T query tiles in G
    groups are group_tiles = ceil(T / G) and one fewer; large_groups = T - G·(group_tiles - 1) is from 1 to G.

    Parameters
    ----------
    queries, keys, e, f
        Shape of a head.
    output_bytes
        Bytes of an output element.
    most_tiles
        At most so many query tiles in a group, and as many as that allows; for experiments.
    values_in_keys
        Values are the first elements of the keys, and are not read again.

    Raises
    ------
    ValueError
        If ``most_tiles`` is less than 1.
    """
    room = config.resident_query_tiles(e, f)
    if most_tiles is not None:
        if most_tiles < 1:
            raise ValueError(f"most_tiles must be at least 1, not {most_tiles!r}")
        return _grouped(config, e, queries, keys, min(room, most_tiles))
    candidates = [_grouped(config, e, queries, keys, most) for most in range(room, 0, -1)]
    times = [estimate(candidate, config, e, f, output_bytes, values_in_keys=values_in_keys) for candidate in candidates]
    shortest = min(times)
    return next(found for found, time in zip(candidates, times, strict=True) if time <= shortest * (1 + TOLERANCE))


def estimate(
    grouping: Residency, config: Config, e: int, f: int, output_bytes: int = 2, *, values_in_keys: bool = False
) -> int:
    """Cycles of a head, from what array, read bus and output buffers must do at least (docs/measurements/residency.md)."""
    interval = Timing(config).least_interval(e, f)

    def rows(count: int, beats: int, outstanding: int) -> int:
        """Cycles on the bus. A row is a burst; so many are under way."""
        return max(count * beats, count * LATENCY_CYCLES // outstanding)

    read = (e,) if values_in_keys else (e, f)
    key_tile = sum(rows(config.rows, config.beats(dim), config.outstanding_reads) for dim in read)
    query_tile = rows(config.columns, config.beats(e), config.outstanding_reads)
    output_row = config.beats(f, output_bytes)
    output_tile = rows(config.columns, output_row, config.outstanding_writes)
    output_slots = config.output_beats // output_row
    cycles = 0
    for size, count in grouping.group_sizes.items():
        array = grouping.key_tiles * size * interval
        bus = grouping.key_tiles * key_tile + size * query_tile
        # On the last key tile's pass a query tile's results come every interval: what has no room waits for the bus.
        waits_for_output = max(0, size - output_slots) * max(0, output_tile - interval)
        cycles += count * (max(array, bus) + waits_for_output)
    # The last group's results are written when nothing is left to compute.
    return cycles + min(grouping.group_tiles, output_slots) * max(0, output_tile - interval)


def _grouped(config: Config, e: int, queries: int, keys: int, most_tiles: int) -> Residency:
    """Balanced groups of at most so many query tiles."""
    key_tiles, query_tiles = ceil_div(keys, config.rows), ceil_div(queries, config.columns)
    groups = ceil_div(query_tiles, most_tiles)
    group_tiles = ceil_div(query_tiles, groups)
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

"""Groups of resident query tiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusemax.planning.residency import TOLERANCE, estimate, residency
from fusemax.spec import CONFIGS


@given(
    st.sampled_from(list(CONFIGS.values())), st.integers(1, 64), st.integers(1, 64), st.integers(1, 5000), st.integers(1, 5000)
)
def test_groups_cover_the_query_tiles(config, e: int, f: int, queries: int, keys: int) -> None:
    found = residency(config, e, f, queries, keys)
    sizes = [found.group_tiles] * found.large_groups + [found.group_tiles - 1] * (found.groups - found.large_groups)
    assert sum(sizes) == found.query_tiles
    assert 1 <= found.large_groups <= found.groups
    assert min(sizes) >= 1
    assert max(sizes) <= config.resident_query_tiles(e, f) <= found.query_slots
    assert max(sizes) - min(sizes) <= 1
    assert (found.query_tiles - 1) * config.columns + found.last_queries == queries
    assert (found.key_tiles - 1) * config.rows + found.last_keys == keys
    assert 1 <= found.last_queries <= config.columns
    assert 1 <= found.last_keys <= config.rows
    assert found.tiles == found.key_tiles * sum(sizes)
    assert found.group_iterations == found.key_tiles * max(sizes)


@given(
    st.sampled_from(list(CONFIGS.values())), st.integers(1, 64), st.integers(1, 64), st.integers(1, 5000), st.integers(1, 5000)
)
def test_no_grouping_is_estimated_much_shorter(config, e: int, f: int, queries: int, keys: int) -> None:
    """Of the equally good ones it is the one with the largest groups."""
    found = residency(config, e, f, queries, keys)
    taken = estimate(found, config, e, f)
    for most in range(1, config.resident_query_tiles(e, f) + 1):
        other = residency(config, e, f, queries, keys, most_tiles=most)
        time = estimate(other, config, e, f)
        assert taken <= time * (1 + TOLERANCE)
        if other.group_tiles > found.group_tiles:
            assert time > taken


@pytest.mark.parametrize(
    ("queries", "groups", "large_groups", "group_tiles"),
    [(8, 1, 1, 1), (32, 1, 1, 4), (33, 2, 1, 3), (72, 3, 3, 3), (80, 3, 1, 4)],
)
def test_groups_are_balanced(queries: int, groups: int, large_groups: int, group_tiles: int) -> None:
    """Four query tiles stay on chip at E = F = 64 of the small configuration."""
    found = residency(CONFIGS["small"], 64, 64, queries, 100)
    assert (found.groups, found.large_groups, found.group_tiles) == (groups, large_groups, group_tiles)


def test_small_head_dims_keep_more_query_tiles() -> None:
    assert residency(CONFIGS["small"], 16, 16, 1000, 8).group_tiles > residency(CONFIGS["small"], 64, 64, 1000, 8).group_tiles

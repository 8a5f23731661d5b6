"""Points and steps of iteration spaces."""

import itertools

import pytest

from fusemax.evaluation.paper import Ranks, attention_ranks


def test_count_and_steps_by_enumeration():
    ranks = Ranks({"a": 5, "b": 7, "c": 2}, outer=3)
    points = 3 * len(list(itertools.product(range(5), range(7), range(2))))
    assert ranks.count("a b c") == points
    tiles = {(a // 2, b // 4, c) for a, b, c in itertools.product(range(5), range(7), range(2))}
    assert ranks.steps("a b c", {"a": 2, "b": 4}) == 3 * len(tiles)


def test_attention_with_tails():
    ranks = attention_ranks(heads=2, e=3, f=5, queries=9, keys=10, rows=4, columns=4)
    assert (ranks["m1"], ranks["m0"], ranks["t"]) == (3, 4, 3)
    # 10 keys, not 3 tiles of 4.
    assert ranks.count("m1 m0 p") == 2 * 10 * 9
    # The array steps through whole tiles.
    assert ranks.steps("e m1 m0 p", {"m0": 4, "p": 4}) == 2 * 3 * 3 * 3
    assert ranks.count("m1 p") == 2 * 3 * 9


def test_unknown_rank():
    with pytest.raises(ValueError, match="a rank must be one of a, not 'z'"):
        Ranks({"a": 1}).count("a z")

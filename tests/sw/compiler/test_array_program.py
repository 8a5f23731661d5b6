"""Mapped cascades: operations, their variables in time, and what follows from them."""

from __future__ import annotations

from fusemax.cascade import CASCADES
from fusemax.compiler.mapper import map_cascade
from fusemax.compiler.operations import Contract, TileMaximum, TileSum, Weigh, WeightedSum

ATTENTION = map_cascade(CASCADES["attention_1pass"])


def test_operations_and_their_variables_in_time() -> None:
    operations = (Contract, TileMaximum, Weigh, TileSum, WeightedSum)
    assert [ATTENTION.time_variable(operation) for operation in operations] == ["e", None, None, None, "f"]
    assert (ATTENTION.tile_variable, ATTENTION.space_variables) == ("m1", ("m0", "p"))


def test_what_follows_from_the_operations() -> None:
    assert ATTENTION.weigh == Weigh(running=True)
    assert (ATTENTION.running_maximum, ATTENTION.divides, ATTENTION.sums_scores) == (True, True, False)
    sigmoid = map_cascade(CASCADES["sigmoid_attention"])
    assert sigmoid.weigh == Weigh("sigmoid")
    assert (sigmoid.running_maximum, sigmoid.divides, sigmoid.sums_scores) == (False, False, False)


def test_head_dims_of_one_rank_are_equal() -> None:
    ATTENTION.check_dims(3, 4)
    same = map_cascade(CASCADES["sigmoid_attention"])
    same.check_dims(3, 4)

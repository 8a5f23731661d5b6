"""Cascades that get tiles: what they compute stays, and what cannot have any is said."""

from __future__ import annotations

import numpy as np
import pytest

from fusemax.cascade import CASCADES, ReachError, parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.cascade.deferred_division import defer_division
from fusemax.cascade.interpreter import interpret
from fusemax.cascade.kinds import Kind, Space, Tiles, kind_of
from fusemax.cascade.tiling import tile, tileable_rank
from fusemax.cascade.writer import to_text

DATA = {
    name: np.random.default_rng(seed).normal(size=shape)
    for name, shape, seed in (("Q", (3, 4), 1), ("K", (3, 6), 2), ("V", (3, 6), 3))
}


@pytest.mark.parametrize("name", ["sigmoid_attention", "sigmoid_attention_normalized"])
@pytest.mark.parametrize("rows", [1, 2, 6])
def test_a_tiled_cascade_computes_the_same(name: str, rows: int) -> None:
    cascade = CASCADES[name]
    rank = tileable_rank(cascade)
    assert rank == "M"
    tiled = tile(defer_division(cascade), rank)
    (result,) = tiled.results
    found = interpret(tiled, DATA, M0=rows)[result]
    np.testing.assert_allclose(found, interpret(cascade, DATA)["AV"], rtol=1e-12)
    assert parse(to_text(tiled)).extended == tiled.extended, "it is a cascade that can be written"


@pytest.mark.parametrize("name", ["attention_1pass", "attention_2pass", "cascade1", "flowformer"])
def test_what_has_tiles_or_no_scores_gets_none(name: str) -> None:
    assert tileable_rank(CASCADES[name]) is None


@pytest.mark.parametrize(
    ("name", "line", "reason"),
    [
        ("attention_3pass", "- GM[", "GM is the max over the whole of m, known behind the last tile only"),
        (
            "sigmoid_attention_normalized",
            "- A[",
            "A reads SD, which is known behind the last tile of m only, for every m again",
        ),
    ],
)
def test_what_needs_all_tiles_is_named(name: str, line: str, reason: str) -> None:
    text = (DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8")
    with pytest.raises(ReachError) as caught:
        tile(CASCADES[name], "M")
    assert reason in str(caught.value)
    assert caught.value.at is not None
    assert caught.value.at.line == text[: text.index(line)].count("\n") + 1


def test_kinds_follow_from_ranks() -> None:
    cascade, tiles = CASCADES["attention_1pass"], Tiles("m1", "m0")
    kinds = {name: kind_of(cascade, tiles, name) for name in cascade.ranks_of}
    assert {name for name, kind in kinds.items() if kind is Kind.OPERAND} == {"Q", "K", "V", "BK", "BV"}
    assert {name for name, kind in kinds.items() if kind is Kind.GRID} == {"BQK", "SLN"}
    assert {name for name, kind in kinds.items() if kind is Kind.COLUMN} == {"LM", "SLD", "PRM", "SPD"}
    assert {name for name, kind in kinds.items() if kind is Kind.VECTOR} == {"SLNV", "SPNV"}
    assert {name for name, kind in kinds.items() if kind is Kind.STATE} == {"RM", "RD", "RNV"}
    assert kinds["AV"] is Kind.RESULT


def test_points_of_an_einsum() -> None:
    scores = CASCADES["sigmoid_attention"].expressions[0]
    assert Space.of(scores).points({"M": 6, "P": 4, "E": 3}) == 72

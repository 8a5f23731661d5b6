"""Cascade 5: its Einsums are bound once each, and groups of query tiles fit."""

import pytest

from fusemax.evaluation.paper import FUSEMAX_MACHINE, Operation, attention_ranks
from fusemax.evaluation.paper.designs.one_pass import EINSUMS, bind, group_tiles

ONE = {Operation.ADD: 1}


def ranks(tokens: int, dim: int = 64):
    return attention_ranks(heads=1, e=dim, f=dim, queries=tokens, keys=tokens, rows=256, columns=256)


def test_einsums_are_those_of_the_paper():
    assert list(EINSUMS) == "BQK LM RM SLN SLD SLNV PRM SPD RD SPNV RNV AV".split()


@pytest.mark.parametrize(
    ("array", "lanes"), [(list(EINSUMS)[:5], list(EINSUMS)[4:]), (["BQK"], ["AV"]), (list(EINSUMS), ["XY"])]
)
def test_every_einsum_is_bound_once(array, lanes):
    with pytest.raises(ValueError, match=r"BQK, .*, AV must be bound once each, not "):
        bind(dict.fromkeys(array, ONE), dict.fromkeys(lanes, ONE))


def test_slots_are_operations_unless_given():
    names = list(EINSUMS)
    bound = bind({}, {name: {Operation.MAC: 6, Operation.ADD: 1} for name in names}, slots={"LM": 0})
    assert [work.slots_per_point for work in bound("BQK LM")] == [7, 0]


@pytest.mark.parametrize(("tokens", "dim", "tiles"), [(1024, 64, 4), (65536, 64, 128), (65536, 128, 64), (3 * 256, 64, 3)])
def test_group_tiles(tokens, dim, tiles):
    found = group_tiles(ranks(tokens, dim), FUSEMAX_MACHINE, FUSEMAX_MACHINE.buffer_bytes, 2 * dim + 2)
    assert found == tiles
    assert 2 * 256 * (2 * dim) + 2 * 256 * found * (2 * dim + 2) <= FUSEMAX_MACHINE.buffer_bytes

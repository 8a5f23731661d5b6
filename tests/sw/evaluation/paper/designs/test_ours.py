"""Ours at the paper's size: slots, operations and room on chip, as the machine of this repository has them."""

import pytest

import fusemax
from fusemax.cli.info import memory_bits
from fusemax.evaluation.paper import FUSEMAX_MACHINE, MODELS, Operation, Unit, attention_ranks, evaluate, result
from fusemax.evaluation.paper.designs.ours import OURS, QUERY_BITS, resident_tiles
from fusemax.spec import CONFIGS


@pytest.mark.parametrize("dim", [64, 128])
def test_slots_are_those_of_the_compiled_program(dim):
    program = fusemax.compile(head_dim=dim, value_dim=dim, config="paper")
    model = next(model for model in MODELS.values() if model.head_dim == dim)
    cost = evaluate(OURS.attention(model, 1024), FUSEMAX_MACHINE)
    tiles = 64 * model.heads * 4 * 4
    assert cost.cycles == pytest.approx(program.ii * tiles)


def test_query_bits_are_those_of_the_banks():
    config = CONFIGS["paper"]
    words = config.columns * config.query_bank_beats * config.beat_elements
    assert memory_bits(config)["queries"] == words * QUERY_BITS


def test_operations():
    """Four kinds on the array, no exponential unit, one division a query."""
    cost = result("ours", "BERT", "1K").cost
    heads, n, dim, tiles = 64 * 12, 1024, 64, 4
    scores, states = heads * n * n, heads * n * tiles
    assert cost.operations[Unit.ARRAY] == {Operation.MAC: scores * (2 * dim + 2), Operation.MAX: scores}
    assert cost.operations[Unit.LANES] == {
        Operation.MAX: states,
        Operation.ADD: states * (dim + 2),
        Operation.MAC: 2 * heads * n * dim,
        Operation.DIVIDE: heads * n,
    }


@pytest.mark.parametrize("dim", [64, 128])
def test_groups_fit_the_buffer(dim):
    ranks = attention_ranks(heads=1, e=dim, f=dim, queries=1 << 20, keys=1 << 20, rows=256, columns=256)
    tiles = resident_tiles(ranks, FUSEMAX_MACHINE)
    query_bytes = (27 * dim + 34 * (dim + 1) + 18) / 8
    used = [2 * 2 * 256 * 2 * dim + count * 256 * query_bytes for count in (tiles, tiles + 1)]
    assert used[0] <= 16 * 2**20 < used[1]

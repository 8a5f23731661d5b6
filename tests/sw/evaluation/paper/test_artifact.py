"""Every row of the artifact that is there: latency, traffic, utilisations to 1e-9, energy to 1e-3."""

import pytest

from fusemax.evaluation.paper import (
    DESIGNS,
    FLAT_MACHINE,
    FUSEMAX_MACHINE,
    LENGTHS,
    MODELS,
    Machine,
    Unit,
    attention_ranks,
    energy_of,
    evaluate,
    linear_layers,
    result,
)
from fusemax.evaluation.paper.designs.fusemax import BINDING_PHASES, stages

EXACT = 1e-9
#: Register files are left out.
ENERGY = 1e-3
#: The artifact's names of Einsums; BQK is its QK.
EINSUMS = ("QK", "LM", "SLN", "SLD", "SLNV", "AV")


@pytest.mark.parametrize("design", ["unfused", "flat", "cascade", "arch", "binding"])
def test_attention(design, artifact_rows):
    rows = artifact_rows(f"attn-{design}")
    assert len(rows) == 12
    for row in rows:
        found = result(design, row["model"], row["seq_len"])
        assert found.cost.latency_s == pytest.approx(float(row["latency"]), rel=EXACT)
        assert found.cost.traffic_bytes == pytest.approx(float(row["traffic"]), rel=EXACT)
        assert found.util_2d == pytest.approx(float(row["util_2d"]), rel=EXACT)
        assert found.util_1d == pytest.approx(float(row["util_1d"]), rel=EXACT)
        assert found.energy.total_pj == pytest.approx(float(row["energy"]), rel=ENERGY)
        names = {einsum for _, einsum in found.cost.useful_cycles}
        for einsum in EINSUMS:
            if einsum in row:
                name = f"B{einsum}" if f"B{einsum}" in names else einsum
                assert found.cost.utilisation(Unit.ARRAY, name) == pytest.approx(float(row[einsum]), rel=EXACT)


@pytest.mark.parametrize(("platform", "machine"), [("flat", FLAT_MACHINE), ("proposal", FUSEMAX_MACHINE)])
def test_linear_layers(platform, machine, artifact_rows):
    rows = artifact_rows(f"end2end-{platform}")
    assert len(rows) == 12
    for row in rows:
        cost = evaluate(linear_layers(MODELS[row["model"]], LENGTHS[row["seq_len"]], machine), machine)
        assert cost.latency_s == pytest.approx(float(row["latency"]), rel=EXACT)
        assert cost.traffic_bytes == pytest.approx(float(row["traffic"]), rel=EXACT)
        assert energy_of(cost, machine).total_pj == pytest.approx(float(row["energy"]), rel=ENERGY)


def test_linear_layers_of_which_designs():
    """The designs before +Architecture run them on FLAT's machine, the others on FuseMax's."""
    assert [name for name, design in DESIGNS.items() if design.machine is FLAT_MACHINE] == ["unfused", "flat", "cascade"]


def test_array_sizes(artifact_rows):
    """FuseMax on arrays of 16 × 16 to 512 × 512: the same code with another machine.

    The artifact doubles the buffer until the memory is no longer what binds.
    """
    rows = artifact_rows("pareto")
    assert len(rows) == 12
    for row in rows:
        size, model = int(row["PE_dim"]), MODELS[row["model"]]
        ranks = attention_ranks(
            heads=64 * model.heads,
            e=model.head_dim,
            f=model.head_dim,
            queries=LENGTHS["256K"],
            keys=LENGTHS["256K"],
            rows=size,
            columns=size,
        )
        for doublings in range(8):
            machine = Machine(
                rows=size,
                columns=size,
                lanes=size,
                frequency_hz=940e6,
                bytes_per_second=400 * 2**30,
                buffer_bytes=16 * size * model.head_dim << doublings,
            )
            cost = evaluate(stages(ranks, machine, BINDING_PHASES), machine)
            lanes_s = cost.utilisation(Unit.LANES) * cost.latency_s
            if cost.memory_s <= lanes_s:
                break
        assert cost.latency_s == pytest.approx(float(row["latency"]), rel=EXACT)
        assert cost.traffic_bytes == pytest.approx(float(row["traffic"]), rel=EXACT)
        assert cost.memory_s == pytest.approx(float(row["mem_lat"]), rel=EXACT)
        assert lanes_s == pytest.approx(float(row["comp_1d_lat"]), rel=EXACT)
        array_s = cost.utilisation(Unit.ARRAY) * cost.latency_s
        assert array_s == pytest.approx(float(row["comp_2d_lat"]), rel=EXACT)

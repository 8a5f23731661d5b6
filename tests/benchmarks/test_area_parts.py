"""What `fusemax explore` adds up is what was synthesised, and the sum is near other machines' synthesis."""

from __future__ import annotations

import json

import pytest

from fusemax.evaluation.explore import AREA_TABLE, AreaTable


@pytest.fixture
def parts(script):
    return script("area_parts")


@pytest.fixture
def rows(parts):
    return json.loads(parts.RESULTS.read_text())


def test_the_package_has_the_table_of_the_results(parts, rows) -> None:
    assert json.loads(AREA_TABLE.read_text()) == parts.area_table(rows)


def test_everything_is_there(parts, rows) -> None:
    designs = {name: config for name, _, config in parts.designs()}
    assert list(rows) == list(designs)
    assert all(rows[name]["config"] == config.to_dict() for name, config in designs.items())


def test_the_64_bit_machine_is_that_of_make_area(parts, rows) -> None:
    """Both scripts belong to `make area`; whoever runs one alone is told here."""
    measured = json.loads((parts.ROOT / "benchmarks" / "results" / "area.json").read_text())["machine"]["parts"]
    assert rows["machine 64 bits"]["parts"] == {parts.short(part): cells for part, cells in measured.items()}


def test_the_sum_is_near_the_synthesis_of_other_machines(parts, rows) -> None:
    compared = parts.compared(rows, AreaTable.read())
    assert len(compared) == len(parts.CHECKS) >= 3
    for config, synthesised, estimated in compared:
        assert (config.rows, config.columns) != (4, 4)
        assert estimated.dsp == synthesised.dsp
        assert estimated.ram_18k == synthesised.ram_18k
        assert estimated.lut == pytest.approx(synthesised.lut, rel=0.04)
        assert estimated.lut_equivalents == pytest.approx(synthesised.lut_equivalents, rel=parts.TOLERANCE)

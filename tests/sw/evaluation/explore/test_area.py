"""Area as the sum of parts: exact where it was measured, and as counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fusemax.evaluation.explore import Area, AreaTable
from fusemax.evaluation.explore.area import LUTS_PER_DSP, LUTS_PER_RAM_18K, counts_of, memories_of, memory_area
from fusemax.spec import Config

TABLE = AreaTable.read()


@pytest.mark.parametrize("bus_bits", TABLE.machines)
def test_a_measured_machine_has_its_measured_area(bus_bits: int) -> None:
    config, parts = TABLE.machines[bus_bits]
    expected = sum((count * parts[part] for part, count in counts_of(config).items()), Area())
    assert TABLE.area(config) == expected


@pytest.mark.parametrize("bus_bits", TABLE.machines)
def test_memories_are_those_that_yosys_made(bus_bits: int) -> None:
    """Feeders have their bank and nothing else; a lane has small rings besides, one for references that leave with states."""
    config, parts = TABLE.machines[bus_bits]
    predicted = {part: sum((memory_area(*m) for m in memories), Area()) for part, memories in memories_of(config).items()}
    for part in ("north_feeder", "west_feeder"):
        for cells in ("ram_18k", "ram_16x4"):
            assert getattr(predicted[part], cells) == getattr(parts[part], cells), (part, cells)
    assert predicted["lane"].ram_18k == parts["lane"].ram_18k
    assert parts["lane"].ram_16x4 - predicted["lane"].ram_16x4 == (22 if bus_bits >= 64 else 12)
    assert predicted["once"].ram_18k == parts["once"].ram_18k
    assert TABLE.logic[bus_bits]["north_feeder"].lut > 0


@pytest.mark.parametrize(
    ("words", "bits", "area"),
    [
        # A block of 512 x 36; two of 1024 x 18 are fewer than four of 512 x 36; rows of LUT memories are chosen last.
        (300, 36, Area(ram_18k=1)),
        (1024, 36, Area(ram_18k=2)),
        (4096, 4, Area(ram_18k=1)),
        (16, 18, Area(ff=18, ram_16x4=5)),
        (32, 128, Area(lut=128, ff=128, ram_16x4=64)),
        (64, 108, Area(ram_18k=3)),
    ],
)
def test_memory(words: int, bits: int, area: Area) -> None:
    assert memory_area(words, bits) == area


def test_parts_are_counted() -> None:
    """Another row is so many PEs and a west feeder; another column PEs, a lane and a north feeder."""
    config = Config(rows=5, columns=7, contexts=3, bus_bits=128, query_tiles=2)
    parts, area = TABLE.parts(config), TABLE.area(config)
    assert TABLE.area(replace(config, rows=6)) - area == 7 * parts["pe"] + parts["west_feeder"]
    assert TABLE.area(replace(config, columns=8)) - area == 5 * parts["pe"] + parts["lane"] + parts["north_feeder"]
    more_contexts = TABLE.area(replace(config, contexts=5)) - area
    assert more_contexts == 35 * (TABLE.pes[5] - TABLE.pes[3])


def test_larger_banks_take_memory() -> None:
    """Queries' banks and states at sixteen times the tiles, in blocks."""
    config = Config(rows=4, columns=4, contexts=2, query_tiles=4)
    more = TABLE.parts(replace(config, query_tiles=64))
    few = TABLE.parts(config)
    # 64 · 16 words of 108 bits: 2 deep times 6 of 18 bits, or 2 times 3 of 36.
    assert (few["north_feeder"].ram_18k, more["north_feeder"].ram_18k) == (3, 6)
    assert more["lane"].ram_18k > few["lane"].ram_18k
    assert more["west_feeder"] == few["west_feeder"]


def test_lut_equivalents() -> None:
    assert Area(lut=100, ff=70).lut_equivalents == 100
    assert Area(lut=100, ff=170).lut_equivalents == 170
    assert Area(lut=100, ram_16x4=2, dsp=3, ram_18k=5).lut_equivalents == 112 + 3 * LUTS_PER_DSP + 5 * LUTS_PER_RAM_18K
    assert round(LUTS_PER_DSP) == 536


@pytest.mark.parametrize(
    ("field", "value", "known"), [("bus_bits", 1024, "32, 64, 128, 256"), ("contexts", 9, "2, 3")], ids=["bus", "contexts"]
)
def test_what_was_not_measured_is_refused(field: str, value: int, known: str) -> None:
    table = AreaTable(TABLE.machines, {contexts: TABLE.pes[contexts] for contexts in (2, 3)})
    with pytest.raises(ValueError, match=f"{field} must be one of {known}, not {value}"):
        table.area(replace(Config(rows=4, columns=4, contexts=2), **{field: value}))


@pytest.mark.parametrize("text", ["{}", "[]", "no", json.dumps({"machines": [{"config": {"rows": 1}}], "pes": []})])
def test_another_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "area.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"must hold areas that benchmarks/area_parts\.py wrote"):
        AreaTable.read(file)

"""Groups of query tiles against the cycle model, at three bandwidths: formulas of docs/measurements/residency.md."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from fusemax.evaluation.bench import Case
from fusemax.planning.residency import LATENCY_CYCLES, estimate

SCRIPT = Path(__file__).resolve().parents[3] / "benchmarks" / "bounds.py"
SHAPES = (
    *("1x512x512x64x64", "1x512x48x64x64", "1x256x256x128x128", "1x256x256x128x64", "1x256x256x64x128"),
    *("1x256x256x16x16", "1x512x512x16x16", "1x500x333x40x24"),
)
INTERVALS = (1, 2, 4)
#: What the largest groups may cost, that read least, against the fastest ones of the shortest head here.
CHOICE_TOLERANCE = 0.07


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_bounds", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks for its module there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def cases() -> list[Case]:
    return [Case.from_shape(shape, beat_interval_cycles=interval) for shape in SHAPES for interval in INTERVALS]


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.shape}-{case.beat_interval_cycles}")
def test_cycles_are_the_rooflines_and_at_most_the_fill_and_drain_more(script, case: Case) -> None:
    """For every size that groups can have, and so for the host's choice."""
    for size in script.group_sizes(case):
        counts = script.modelled(case, size)
        limits = script.bounds(case, script.choice(case, size), counts.bytes_read, counts.bytes_written)
        assert limits.roofline <= counts.cycles <= limits.most
        waits = counts.stall_q + counts.stall_k + counts.stall_v
        assert waits <= limits.by_passes - limits.array + limits.first_fill


@pytest.mark.parametrize("case", [case for case in cases() if "333" not in case.shape], ids=lambda case: case.shape)
def test_stalls_begin_below_the_least_query_tiles(script, case: Case) -> None:
    """The bus is late by the formula's difference, in every group, from the first key tile on."""
    least = script.least_query_tiles(case)
    for size in script.group_sizes(case):
        groups = script.choice(case, size)
        counts = script.modelled(case, size)
        limits = script.bounds(case, groups, counts.bytes_read, counts.bytes_written)
        waits = counts.stall_q + counts.stall_k + counts.stall_v
        if least is not None and min(groups.group_sizes) >= least:
            assert limits.by_groups == limits.array
        else:
            assert limits.by_groups > limits.array
            assert waits >= limits.by_groups - limits.array - limits.first_fill


@pytest.mark.parametrize("shape", ["1x512x512x64x64", "1x256x256x128x128", "1x256x256x128x64"])
def test_no_stall_is_left_but_the_fill(script, shape: str) -> None:
    """Groups of the least size, all of them: what the sequencer waits for is there after the first tiles."""
    case = Case.from_shape(shape)
    least = script.least_query_tiles(case)
    assert least == 3
    queries = 4 * least * case.machine.columns
    counts = script.modelled(replace(case, queries=queries), least)
    late = script.modelled(replace(case, queries=queries), least - 1)
    tolerance = script.bounds(case, script.choice(case, least), counts.bytes_read, counts.bytes_written).first_fill
    assert counts.stall_k + counts.stall_v <= tolerance
    assert late.stall_k + late.stall_v > tolerance


@pytest.mark.parametrize("case", cases()[::3], ids=lambda case: case.shape)
def test_the_host_estimates_by_the_same_formula(script, case: Case) -> None:
    """At a bus word a cycle and the latency that the host assumes."""
    near = replace(case, latency_cycles=LATENCY_CYCLES - 2)
    for size in script.group_sizes(near):
        groups = script.choice(near, size)
        counts = script.modelled(near, size)
        limits = script.bounds(near, groups, counts.bytes_read, counts.bytes_written)
        config = near.machine
        output = config.columns * config.beats(near.f)
        slots = config.output_beats // config.beats(near.f)
        last = min(groups.group_tiles, slots) * max(0, output - (near.e + near.f + 2))
        # The host rounds a tile's cycles down.
        passes = groups.groups * (groups.key_tiles + groups.group_tiles)
        assert 0 <= limits.by_groups + last - estimate(groups, config, near.e, near.f) <= passes


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.shape}-{case.beat_interval_cycles}")
def test_no_other_groups_are_much_faster(script, case: Case) -> None:
    chosen = script.modelled(case).cycles
    for size in script.group_sizes(case):
        assert chosen <= script.modelled(case, size).cycles * (1 + CHOICE_TOLERANCE)


@pytest.mark.parametrize("interval", INTERVALS)
def test_long_heads_are_on_the_roofline(script, interval: int) -> None:
    case = Case.from_shape("1x512x8192x64x64", beat_interval_cycles=interval)
    counts = script.modelled(case)
    roofline = script.bounds(case, script.choice(case), counts.bytes_read, counts.bytes_written).roofline
    assert roofline <= counts.cycles <= 1.003 * roofline

"""Measuring a case: what a row says, when it is stale, and when it is wrong. Devices are the model here."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.evaluation.bench import Case, measure
from fusemax.evaluation.bench.measure import Digests, check, memory_of, random_problem, simulated
from fusemax.evaluation.bench.results import key_of
from fusemax.model import cycles
from fusemax.model.cycles import IdealMemory
from fusemax.planning.memory_map import Shape, required_bytes
from fusemax.planning.residency import residency
from fusemax.spec import CONFIGS

CASE = Case(config="tiny", heads=2, queries=6, keys=9, e=8, f=5)


# -- when a row is stale -----------------------------------------------------------------------------------------------


class Hardware:
    """Takes the place of :mod:`fusemax_sim.emission`: the Verilog of a configuration is its name and a version."""

    def __init__(self) -> None:
        self.version = 1
        self.asked: list[str] = []

    def verilog_digest(self, config: fusemax.Config) -> str:
        self.asked.append(config.name)
        return f"{config.name} {self.version}"


@pytest.fixture
def hardware(monkeypatch: pytest.MonkeyPatch) -> Hardware:
    pretended = Hardware()
    monkeypatch.setitem(sys.modules, "fusemax_sim.emission", SimpleNamespace(verilog_digest=pretended.verilog_digest))
    return pretended


def test_keys_go_stale_with_the_verilog(hardware: Hardware) -> None:
    before = key_of(CASE, Digests().of(CASE))
    assert key_of(CASE, Digests().of(CASE)) == before
    hardware.version = 2
    assert key_of(CASE, Digests().of(CASE)) != before


def test_verilog_is_asked_for_once_per_machine(hardware: Hardware) -> None:
    digests = Digests()
    for config, keys in (("tiny", 9), ("tiny", 10), ("small", 9), ("tiny", 9)):
        digests.of(Case(config=config, heads=1, queries=6, keys=keys, e=8, f=8))
    assert hardware.asked == ["tiny", "small"]


def test_keys_go_stale_with_the_program(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Digests().of(CASE)
    monkeypatch.setattr(measure, "compile_program", lambda **_: fusemax.compile(head_dim=8, value_dim=6, config="tiny"))
    assert Digests().of(CASE) != before


def test_keys_go_stale_with_the_groups(hardware: Hardware, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Digests().of(CASE)
    monkeypatch.setattr(measure, "residency", lambda *arguments: residency(*arguments, most_tiles=1))
    assert Digests().of(CASE) != before


def test_keys_go_stale_with_the_simulated_board(hardware: Hardware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fusemax_sim", SimpleNamespace(__file__=str(tmp_path / "__init__.py")))
    (tmp_path / "verilog").mkdir()
    memory = tmp_path / "verilog" / "memory.sv"
    memory.write_text("module memory; endmodule")
    before = Digests().of(CASE)
    memory.write_text("module memory;  endmodule")
    assert Digests().of(CASE) != before


# -- what a row says ---------------------------------------------------------------------------------------------------


def test_problem_is_reproducible_and_of_three_seeds() -> None:
    q, k, v = random_problem(Case(heads=2, queries=9, keys=9, e=8, f=8))
    assert q.shape == k.shape == v.shape == (2, 9, 8)
    assert len({array.tobytes() for array in (q, k, v)}) == 3
    np.testing.assert_array_equal(q, random_problem(Case(heads=2, queries=9, keys=9, e=8, f=8))[0])


def test_row_of_a_device() -> None:
    with fusemax.open("model", "tiny") as device, fusemax.open("model", "tiny") as model:
        device.transport.testbench_cycles = 1234  # type: ignore[attr-defined]
        row = measure.measure(CASE, device, model)
        counters = device.counters.values
    assert row["kilocycles_per_second"] > 0
    del row["kilocycles_per_second"]
    assert row == {
        **CASE.parameters(),
        **{name: counters[name] for name in ("cycles", "bytes_read", "bytes_written", "slots_empty", "idle")},
        **{name: counters[name] for name in ("stall_q", "stall_k", "stall_v", "stall_output")},
        "utilisation": round(2 * 6 * 9 * 13 / (16 * counters["cycles"]), 5),
        "limit": round(2 * 6 * 9 * 13 / (16 * 2 * 2 * 3 * 15), 5),
        "paper": round(13 / (max(9, 1 + 5 + 5 / 3) + 9 + 5), 5),
        "kind": "RTL",
        "testbench_cycles": 1234,
        "bits_as_model": True,
    }


def test_a_wrong_bit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def disturbed(*arrays: Any, **options: Any) -> Any:
        result = fusemax.attention(*arrays, **options)
        if not calls:
            result.view(np.uint16)[1, 5, 4] ^= 1
        calls.append(options)
        return result

    monkeypatch.setattr(measure, "attention", disturbed)
    with fusemax.open("model", "tiny") as device, fusemax.open("model", "tiny") as model:
        device.transport.testbench_cycles = device.counters.cycles  # type: ignore[attr-defined]
        row = measure.measure(CASE, device, model)
    assert not row["bits_as_model"]
    assert "the result must be the model's, bit for bit" in check(CASE, row)


def test_row_of_the_cycle_model() -> None:
    case = Case(config="tiny", heads=2, queries=6, keys=9, e=8, f=5, latency_cycles=113, beat_interval_cycles=3, modelled=True)
    row = simulated(case)
    memory = IdealMemory(read_latency_cycles=113, beat_interval_cycles=3)
    program = fusemax.compile(head_dim=8, value_dim=5, config="tiny")
    counts = cycles(program, Shape(heads=2, queries=6, keys=9, e=8, f=5), memory)
    assert row["kind"] == "model"
    assert {name: row[name] for name in ("cycles", "bytes_read", "idle")} == {
        name: counts.values[name] for name in ("cycles", "bytes_read", "idle")
    }
    assert check(case, row) == []


def test_target_of_the_published_array() -> None:
    case = Case(config="paper", heads=1, queries=1 << 16, keys=1 << 16, e=64, f=64, target=0.980, modelled=True)
    assert check(case, simulated(case)) == []


@pytest.mark.parametrize("length", [1, 100, 100_000])
def test_a_case_has_room(length: int) -> None:
    """By the driver's own figure of what a call needs."""
    for config in ("tiny", "base", "paper"):
        case = Case(config=config, heads=4, queries=length, keys=length, e=37, f=53)
        assert memory_of(case) % CONFIGS[config].bus_bytes == 0
        assert memory_of(case) >= required_bytes(CONFIGS[config], Shape(heads=4, queries=length, keys=length, e=37, f=53))


# -- when a row is wrong -----------------------------------------------------------------------------------------------


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    def make(cycles: int, **fields: Any) -> dict[str, Any]:
        return {**measure.describe(CASE, cycles), "kind": "RTL", "bits_as_model": True, "testbench_cycles": cycles + 2} | fields

    return make


def test_target(row: Callable[..., dict[str, Any]]) -> None:
    """The row's figure is rounded to 0.5; the target is not reached all the same."""
    target = Case(config="tiny", heads=1000, queries=400, keys=400, e=8, f=8, target=0.5)
    reached = 1000 * 400 * 400 * 16 // 16 * 2
    assert check(target, row(reached)) == []
    assert check(target, row(reached + 1000)) == ["utilisation must be at least 0.5, not 0.499998"]
    assert check(CASE, row(10**9)) == []


def test_counting_outside(row: Callable[..., dict[str, Any]]) -> None:
    assert check(CASE, row(1000, testbench_cycles=1008)) == []
    for outside in (991, 1009):
        assert check(CASE, row(1000, testbench_cycles=outside)) == [
            f"the testbench must count as the device, 1000 cycles, not {outside}"
        ]

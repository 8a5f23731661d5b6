"""The ablation's committed rows are those of the cycle model, and its page is made of them."""

from __future__ import annotations

import json

import pytest

from fusemax.compiler.modulo_schedule import Binding
from fusemax.evaluation.bench import Case


@pytest.fixture
def ablation(script):
    return script("ablation")


@pytest.fixture
def results(ablation):
    rows = json.loads(ablation.RESULTS.read_text())
    return {case: {b: rows[ablation.Run(case, b).name] for b in Binding} for case in ablation.CASES}


def test_measured_on_base(ablation, results) -> None:
    assert {case.config for case in results} == {"base"}
    for case, rows in results.items():
        for binding, row in rows.items():
            run = ablation.Run(case, binding)
            assert row["kind"] == "RTL"
            assert row["ii"] == run.program.ii
            assert row["cycles"] == run.model_cycles
    assert ablation.wrong(results) == []


def test_each_step_saves_what_its_slots_are(results) -> None:
    """Per tile, but for the first ones and the last."""
    for case, rows in results.items():
        tiles = case.expected_cycles // (case.e + case.f + 2)
        for one, other in ((Binding.SERIAL, Binding.OVERLAPPED), (Binding.OVERLAPPED, Binding.CO_ISSUED)):
            saved = rows[one]["cycles"] - rows[other]["cycles"]
            assert saved == pytest.approx(tiles * (rows[one]["ii"] - rows[other]["ii"]), rel=0.03)


def test_the_page_is_made_of_the_rows(ablation, results) -> None:
    assert (ablation.DOCS / "ablation.md").read_text(encoding="utf-8") == ablation.page(results)


def test_what_is_wrong_is_said(ablation, results) -> None:
    (first, *_) = results
    rows = {binding: dict(row) for binding, row in results[first].items()}
    rows[Binding.SERIAL] |= {"cycles": 1, "testbench_cycles": 1}
    rows[Binding.OVERLAPPED]["bits_as_model"] = False
    found = "\n".join(ablation.wrong({first: rows}))
    for text in (
        "serial: cycles must be the model's",
        "overlapped: the result must be the model's",
        "each step must save cycles",
    ):
        assert text in found


def test_rows_are_measured_once(ablation, tmp_path, monkeypatch) -> None:
    """And again if Verilog or program have changed."""
    measured = []
    digests = {"verilog": "1"}
    monkeypatch.setattr(ablation, "CASES", (Case(config="tiny", heads=1, queries=4, keys=4, e=4, f=4),))
    monkeypatch.setattr(ablation.Run, "measure", lambda run: {"cycles": measured.append(run.binding) or 1})
    monkeypatch.setattr(
        ablation, "Digests", lambda: type("D", (), {"of": lambda _, case, p: digests["verilog"] * 8 + f"{p.ii:08}"})()
    )
    ablation.measured(tmp_path / "rows.json")
    ablation.measured(tmp_path / "rows.json")
    assert measured == list(Binding)
    digests["verilog"] = "2"
    ablation.measured(tmp_path / "rows.json")
    assert measured == list(Binding) * 2

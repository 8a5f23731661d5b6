"""The table of docs/measurements/boards.md: made of the committed results, which keep the README's promises."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from fusemax.board import BOARDS


@pytest.fixture
def boards(script):
    return script("boards")


def test_the_page_is_of_the_results(boards) -> None:
    results = json.loads(boards.RESULTS.read_text())
    assert list(results) == list(boards.ROWS)
    assert boards.PAGE.read_text(encoding="utf-8") == boards.page(results)


def test_results_keep_their_promise(boards) -> None:
    results = json.loads(boards.RESULTS.read_text())
    ulx3s = results["ulx3s_85f-tiny"]
    assert ulx3s["fmax_mhz"] >= ulx3s["clock_mhz"] >= 60
    assert ulx3s["config"]["rows"] >= 4 and ulx3s["config"]["columns"] >= 4 and ulx3s["config"]["max_e"] >= 64
    assert ulx3s["bitstream"]["bytes"] > 100_000
    for name, report in results.items():
        assert report["config"] == boards.ROWS[name].config.to_dict()
        if "error" not in report:
            assert all(report["used"][part] <= report["available"][part] for part in report["used"]), name


def test_the_largest_array_that_meets_its_clock(boards, monkeypatch) -> None:
    found = {
        "a": {"fmax_mhz": 63.01},
        "b": {"fmax_mhz": 62.6},
        "c": {"fmax_mhz": 55.3, "error": "too slow"},
        "d": {"error": "too large"},
    }
    monkeypatch.setattr(boards, "ROWS", {name: SimpleNamespace(board=boards.PLACED_BOARD) for name in found})
    for number, report in enumerate(found.values(), 4):
        report |= {"config": {"rows": number, "columns": number}, "clock_mhz": 62.5, "peak_gmac_per_s": number**2 / 16}
    assert boards.sizes(found) == (
        "Array sizes on the ULX3S with ECP5-85F: 4 × 4 reaches 63.0 MHz of 62.5; 5 × 5 reaches 62.6 MHz of 62.5; "
        "6 × 6 reaches 55.3 MHz of 62.5; 7 × 7 does not fit. "
        "The largest that meets its clock is 5 × 5, 1.56 GMAC/s at its peak."
    )
    del found["d"]["error"]
    assert "7 × 7 was synthesised only." in boards.sizes(found)
    for report in found.values():
        report["clock_mhz"] = 70.0
    assert boards.sizes(found).endswith("The largest that meets its clock is none.")


def test_at_most_four_array_sizes(boards) -> None:
    assert sum(row.board == boards.PLACED_BOARD for row in boards.ROWS.values()) <= 4


@pytest.fixture
def project(boards, monkeypatch, tmp_path):
    """A project whose steps write down that they were done; its board has enough unless ``fails`` is set."""
    state = SimpleNamespace(steps=[], fails=False)

    def synthesise():
        state.steps.append("synthesise")
        if state.fails:
            raise boards.FitError(BOARDS["ulx3s_85f"], "LUTs", 9, 8, "choose less")
        state.project.report["used"] = {}

    state.project = SimpleNamespace(
        report={field: field for field in boards.KEY},
        synthesise=synthesise,
        place=lambda: state.steps.append("place") or state.project.report.update(fmax_mhz=61),
        pack=lambda: state.steps.append("pack"),
    )
    monkeypatch.setattr(boards, "write_project", lambda *_: state.project)
    monkeypatch.setattr(boards, "WORK", tmp_path)
    return state


def test_a_row_is_made_once(boards, project, tmp_path) -> None:
    placed, not_placed = (next(row for row in boards.ROWS.values() if row.placed is wanted) for wanted in (True, False))
    report = boards.measure(placed, None)
    assert project.steps == ["synthesise", "place", "pack"]
    assert boards.measure(placed, report) == report and len(project.steps) == 3
    # Left there by a build.
    (tmp_path / placed.name).mkdir()
    (tmp_path / placed.name / "report.json").write_text(json.dumps(report))
    assert boards.measure(placed, None) == report and len(project.steps) == 3
    project.project.report = {**project.project.report, "verilog": "other"}
    boards.measure(placed, report)
    assert project.steps[3:] == ["synthesise", "place", "pack"]
    boards.measure(not_placed, None)
    assert project.steps[6:] == ["synthesise"]


def test_a_row_that_does_not_fit_says_so(boards, project) -> None:
    project.fails = True
    report = boards.measure(next(iter(boards.ROWS.values())), None)
    assert report["error"] == "ulx3s_85f has 8 LUTs, but 9 are needed: choose less"

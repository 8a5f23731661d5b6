"""``fusemax bench``: rows are saved as they are measured, a second call resumes, and what is printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import fusemax
from fusemax.cli import main
from fusemax.evaluation.bench import RIVALS, Case, Results
from fusemax.evaluation.bench import measure as measuring

SHAPES = ("1x8x8x4x4", "2x5x9x3x7")


class Bench:
    """The command on model devices that are said to be Verilog of ``version``; ``measured`` are the shapes that it ran."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "results" / "bench.json"
        self.version = "1"
        self.measured: list[str] = []
        self.stop_at = ""

    def __call__(self, *options: str) -> int:
        self.measured.clear()
        return main(["bench", "--config", "tiny", "-o", str(self.file), *options])

    @contextmanager
    def opened(self, case: Case) -> Iterator[tuple[Any, Any]]:
        if case.shape == self.stop_at:
            raise KeyboardInterrupt
        self.measured.append(case.shape)
        with fusemax.open("model", case.config) as device, fusemax.open("model", case.config) as model:
            # Cycles are counted at the end of the call.
            type(device.transport).testbench_cycles = property(lambda _: device.counters.cycles + 2)  # type: ignore[attr-defined]
            try:
                yield device, model
            finally:
                del type(device.transport).testbench_cycles  # type: ignore[attr-defined]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return list(Results(self.file).rows.values())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    command = Bench(tmp_path)
    monkeypatch.setattr(measuring, "opened", command.opened)
    monkeypatch.setattr(measuring.Digests, "_verilog_of", lambda _, config: f"{config.name} {command.version}")
    return command


def both(*options: str) -> list[str]:
    return [*(text for shape in SHAPES for text in ("--shape", shape)), *options]


def test_a_second_call_resumes(bench: Bench) -> None:
    assert bench(*both()) == 0
    assert bench.measured == list(SHAPES)
    rows = bench.rows
    assert [row["heads"] for row in rows] == [1, 2]
    assert bench(*both()) == 0
    assert bench.measured == []
    assert bench.rows == rows


def test_a_row_is_saved_as_it_is_measured(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.stop_at = SHAPES[1]
    assert bench(*both()) == 130
    assert "interrupted" in capsys.readouterr().err
    (row,) = bench.rows
    assert row["heads"] == 1
    bench.stop_at = ""
    assert bench(*both()) == 0
    assert bench.measured == [SHAPES[1]]
    assert bench.rows[0] == row
    assert len(bench.rows) == 2


def test_another_machine_is_measured_anew(bench: Bench) -> None:
    bench(*both())
    bench.version = "2"
    bench(*both())
    assert bench.measured == list(SHAPES)
    bench.version = "1"
    bench(*both())
    assert bench.measured == []


def test_another_memory_is_measured_anew(bench: Bench) -> None:
    bench(*both())
    bench(*both("--latency", "61"))
    assert bench.measured == list(SHAPES)
    bench(*both("--beat-interval", "2"))
    assert bench.measured == list(SHAPES)
    assert [(row["latency_cycles"], row["beat_interval_cycles"]) for row in bench.rows[::2]] == [(60, 1), (61, 1), (60, 2)]


@pytest.mark.parametrize("again", [False, True])
def test_json_and_nothing_else(again: bool, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    if again:
        bench(*both())
        capsys.readouterr()
    assert bench(*both("--json")) == 0
    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert list(printed) == ["rows", "rivals"]
    assert [rival["name"] for rival in printed["rivals"]] == [rival.name for rival in RIVALS]
    for row, saved in zip(printed["rows"], bench.rows, strict=True):
        assert row == {**{name: value for name, value in saved.items() if name != "key"}, "target": None, "wrong": []}
    # Progress goes the other way.
    assert captured.err.count(" cycles, ") == (0 if again else 2)


def test_table(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--shape", SHAPES[1]) == 0
    (row,) = bench.rows
    line = next(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("tiny"))
    assert line[:10] == ["tiny", "2", "5", "9", "3", "7", "60", "8", "RTL", str(row["cycles"])]
    assert line[11] == "-"
    assert line[-1] == "ok"


def test_wrong_rows_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--shape", SHAPES[0]) == 0
    monkeypatch.setattr(measuring, "COUNT_TOLERANCE_CYCLES", 1)
    # Also if it was measured before.
    assert bench("--shape", SHAPES[0]) == 1
    captured = capsys.readouterr()
    assert "WRONG" in captured.out
    assert f"tiny {SHAPES[0]}: the testbench must count as the device" in captured.err


def test_a_missed_target_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = Case(config="tiny", heads=1, queries=8, keys=8, e=4, f=4, target=0.7)
    monkeypatch.setattr("fusemax.cli.bench.cases", lambda groups: [small])
    assert main(["bench", "--json", "-o", str(bench.file)]) == 1
    captured = capsys.readouterr()
    (row,) = json.loads(captured.out)["rows"]
    assert row["target"] == 0.7
    assert len(row["wrong"]) == 1
    assert "tiny 1x8x8x4x4: utilisation must be at least 0.7, not 0." in captured.err


def test_a_whole_run_drops_stale_rows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [Case.from_shape(shape, config="tiny") for shape in SHAPES]
    monkeypatch.setattr("fusemax.cli.bench.cases", lambda groups: chosen)
    bench("--shape", "1x1x1x1x1")
    assert main(["bench", "-o", str(bench.file)]) == 0
    assert [row["heads"] for row in bench.rows] == [1, 2]
    # A part of it does not.
    bench("--shape", "1x1x1x1x1")
    assert main(["bench", "--longest", "50", "-o", str(bench.file)]) == 0
    assert len(bench.rows) == 3


def test_modelled(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is opened, and always modelled anew, which takes no time and depends on no Verilog."""
    options = ["bench", "--shape", "1x65536x65536x64x64", "--config", "paper", "--modelled", "--json", "-o", str(bench.file)]
    for _ in range(2):
        assert main(options) == 0
        (row,) = json.loads(capsys.readouterr().out)["rows"]
        assert row["kind"] == "model"
        assert row["utilisation"] >= 0.980
    assert bench.measured == []
    assert len(bench.rows) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--shape", "1x2x3"], "a shape must be heads, queries, keys, E and F as in 8x256x256x64x64, not '1x2x3'"),
        (["--shape", "1x1x1x65x1"], "head_dim must be from 1 to 64 on 'tiny', not 65"),
        (
            ["--shape", "1x1x1x1x1", "--modelled", "--latency", "65536"],
            "read_latency_cycles must be from 1 to 65535, not 65536",
        ),
        (["--group", "targets"], "--config, --set, --name, --latency, --beat-interval and --modelled must come with --shape"),
        (["--shape", "1x1x1x1x1", "-o", "."], "the results must be a file, not the directory '.'"),
    ],
)
def test_what_is_wrong_is_said(options: list[str], message: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(*options) == 1
    captured = capsys.readouterr()
    assert captured.err.endswith(f"error: {message}\n")
    assert captured.out == ""


def test_shapes_are_instead_of_groups(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench("--shape", "1x1x1x1x1", "--group", "targets")
    assert stopped.value.code == 2
    assert "not allowed with argument" in capsys.readouterr().err


def test_an_error_begins_on_a_line_of_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("the simulator is broken")

    monkeypatch.setattr(measuring, "measure", broken)
    assert bench("--shape", SHAPES[0]) == 1
    assert capsys.readouterr().err == f"tiny {SHAPES[0]}, latency 60\nerror: the simulator is broken\n"
    bench.stop_at = SHAPES[0]
    assert bench("--shape", SHAPES[0]) == 130
    assert capsys.readouterr().err == f"tiny {SHAPES[0]}, latency 60\ninterrupted\n"


@pytest.mark.cosim
def test_on_the_verilog(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing but JSON, also of the simulator's process; the second call takes the row from the file."""
    options = [
        "bench",
        "--shape",
        "2x9x10x8x5",
        "--config",
        "tiny",
        "--latency",
        "20",
        "--json",
        "-o",
        str(tmp_path / "b.json"),
    ]
    printed = []
    for calls in (1, 0):
        assert main(options) == 0
        captured = capfd.readouterr()
        printed.append(json.loads(captured.out))
        assert captured.err.count(" cycles, ") == calls
    assert printed[0] == printed[1]
    (row,) = printed[0]["rows"]
    assert row["kind"] == "RTL"
    assert row["bits_as_model"] is True
    assert row["wrong"] == []
    assert main([*options, "--modelled"]) == 0
    (modelled,) = json.loads(capfd.readouterr().out)["rows"]
    assert modelled["cycles"] == row["cycles"]


@pytest.mark.parametrize("what", ["cache", "results"])
def test_what_cannot_be_written_is_found_before_anything_is_measured(what, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / ("file" if what == "cache" else "cache")))
    monkeypatch.setattr("fusemax.cli.bench.run", None)
    results = tmp_path / ("file" if what == "results" else "there") / "bench.json"
    assert main(["bench", "--config", "tiny", "--shape", "1x2x2x2x2", "-o", str(results)]) == 1
    message = capsys.readouterr().err
    assert ("FUSEMAX_CACHE" if what == "cache" else "file'") in message

"""``fusemax board``: what is printed, and exit codes; boards are the model behind a pseudo-terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fusemax.board import BOARDS
from fusemax.board.connection import connect
from fusemax.cli import board as command
from fusemax.cli import main
from fusemax.spec import CONFIGS
from fusemax.spec.bridge import Command

LINE = ("--baud", "115200")


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in BOARDS)
    assert main(["board", "list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [board["name"] for board in found["boards"]] == list(BOARDS)
    assert isinstance(found["ports"], list)


def test_list_without_pyserial(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    assert main(["board", "list"]) == 0
    assert "serial ports: pip install 'fusemax[board]'" in capsys.readouterr().out


def test_info(make_board: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    port = make_board("small").port
    assert main(["board", "info", "--port", port, *LINE]) == 0
    assert "0x46584d41" in capsys.readouterr().out
    assert main(["board", "info", "--port", port, *LINE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["max_e"], found["memory bytes"]) == (8, 64, 1 << 16)


def test_a_sound_board_passes(make_board: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    port = make_board().port
    arguments = ["board", "test", "--port", port, *LINE, "--config", "tiny", "--tokens", "12", "--decode", "2"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert text.count("bit for bit") == 5 and "WRONG" not in text
    assert "transfer" in text and "repeated requests 0" in text
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["right"] is True and len(found["tests"]) == 5
    assert found["config"] == CONFIGS["tiny"].to_dict()
    assert found["line"]["requests"] == found["line"]["answers"] > 100


def test_a_wrong_one_does_not(make_board: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    board = make_board()
    execute = board.bridge._execute

    def spoilt(request: Any) -> Any:
        result = execute(request)
        board.model.memory[4099::8] &= 0x7F
        return result

    board.bridge._execute = spoilt
    assert main(["board", "test", "--port", board.port, *LINE, "--config", "tiny", "--tokens", "8", "--decode", "0"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_what_is_under_way_is_ended_first(make_board: Callable[..., Any]) -> None:
    board = make_board()
    port, target = connect(board.port, 115200)
    target.read_registers(0)
    port.close()
    resets: list[int] = []
    execute = board.bridge._execute

    def watched(request: Any) -> Any:
        if request.command == Command.WRITE_MEMORY:
            resets.append(board.bridge.resets)
        return execute(request)

    board.bridge._execute = watched
    assert main(["board", "test", "--port", board.port, *LINE, "--config", "tiny", "--tokens", "8", "--decode", "0"]) == 0
    assert resets[0] == 1


def test_another_configuration_is_refused_before_anything_is_tested(
    make_board: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    board = make_board()
    assert main(["board", "test", "--port", board.port, *LINE, "--config", "small"]) == 1
    assert "error: the device's rows must be 8 as in 'small', not 4; load the bitstream" in capsys.readouterr().err
    assert not board.model.memory.any()


def test_the_configuration_may_be_changed(make_board: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    port = make_board("tiny").port
    arguments = ["board", "test", "--port", port, *LINE, "--config", "small", "--tokens", "8", "--decode", "0", "--json"]
    assert main([*arguments, "--set", "rows=4", "--set", "columns=4"]) == 0
    assert json.loads(capsys.readouterr().out)["config"]["name"] == "small_rows4_columns4"


@pytest.mark.parametrize("text", ["rows", "rows=", "rows=x", "name=3", "cows=3"])
def test_settings_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["board", "build", "ulx3s_85f", "--set", text])
    assert stopped.value.code == 2
    assert "must be FIELD=NUMBER with a field of rows, columns," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--port", "/dev/absent"], "port '/dev/absent' must be a serial port"),
        (["load", "ulx3s_85f", "absent.bit"], "the bitstream must be a file, but 'absent.bit' is not there"),
        (["build", "tang_primer_20k", "--config", "base"], "tang_primer_20k has 48 multipliers, but 256 are needed"),
        (["build", "ulx3s_85f", "--config", "tiny", "--clock-mhz", "61.7"], "baud must be within 2 %"),
    ],
)
def test_errors_are_printed(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["board", *arguments]) == 1
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("until", "is_open", "steps"),
    [
        ("project", True, []),
        ("synthesis", True, ["synthesise"]),
        ("bitstream", True, ["synthesise", "place", "pack"]),
        ("bitstream", False, ["synthesise"]),
    ],
)
def test_build(
    until: str,
    is_open: bool,
    steps: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    build = pytest.importorskip("fusemax_hw.boards.build")
    seen: list[Any] = []

    def write_project(board: str, config: Any, directory: Path, **options: Any) -> Any:
        seen.append((board, config.name, directory, options))
        return SimpleNamespace(
            report={"board": board, "available": {"luts": 9}},
            is_open=is_open,
            synthesise=lambda: steps_done.append("synthesise") or {"luts": 7},
            place=lambda: steps_done.append("place") or 61e6,
            pack=lambda: steps_done.append("pack"),
        )

    steps_done: list[str] = []
    monkeypatch.setattr(build, "write_project", write_project)
    arguments = [
        "--config",
        "tiny",
        "--set",
        "max_e=32",
        "--memory-bytes",
        "8192",
        "--clock-mhz",
        "50",
        "--until",
        until,
        "--json",
    ]
    assert main(["board", "build", "ulx3s_85f", *arguments]) == 0
    assert steps_done == steps
    options = {"memory_bytes": 8192, "clock_hz": 50e6, "baud": None, "seed": 1}
    assert seen == [("ulx3s_85f", "tiny_max_e32", Path("build/board/ulx3s_85f-tiny_max_e32"), options)]
    captured = capsys.readouterr()
    assert json.loads(captured.out)["board"] == "ulx3s_85f"
    assert ("luts: 7 of 9" in captured.err) == bool(steps)
    assert ("61.0 MHz" in captured.err) == ("place" in steps)
    assert ("no open tools" in captured.err) == (not is_open)


def test_a_bar_only_for_long_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    with command.transfer_bar() as show:
        assert show is None  # stderr is not a terminal.
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=StringIO(), force_terminal=True)
    monkeypatch.setattr("rich.console.Console", lambda **_: console)
    monkeypatch.setattr(command, "BAR_SECONDS", 0.0)
    with command.transfer_bar() as show:
        assert show is not None
        show(1, 4)
        show(2, 4)
        time.sleep(0.3)  # It is drawn ten times a second.
        show(4, 4)
    assert "transfer" in console.file.getvalue()

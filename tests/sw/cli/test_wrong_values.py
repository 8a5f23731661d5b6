"""Wrong values of every option: an error in one line, in words of the command line, and no traceback."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusemax.cli import COMMANDS, main

#: A command that is right and quick to refuse what is added to it.
RIGHT = {
    "bench": ["--shape", "1x2x2x2x2", "--modelled", "--config", "tiny"],
    "board build": ["ulx3s_85f", "--until", "project"],
    "board info": ["--port", "absent"],
    "board load": ["ulx3s_85f", "absent.bit"],
    "board test": ["--port", "absent"],
    "compile": ["--config", "tiny"],
    "explore": ["--shape", "1x4x4x4x4", "--rows", "2", "--columns", "2", "--query-tiles", "1", "--bus", "64"],
    "info": ["--config", "tiny"],
    "passes": ["attention_1pass"],
    "run": ["--device", "model", "--config", "tiny", "--heads", "1"],
    "verilog": ["--config", "tiny"],
}
#: Options that take any text.
FREE = {"-o", "--name", "--results"}
VALUES = ("", "x", "-1", "0.5", "nan", "inf", "1e300", "99999999999999999999")
#: Of an option, what is right after all.
ALLOWED = {("--timeout", "0.5"), ("--timeout", "1e300"), ("--longest", "99999999999999999999")}
ALLOWED |= {("--timeout", "99999999999999999999"), ("--latency", "0.5")}
#: Would start that many processes.
ALLOWED |= {("--workers", "99999999999999999999")}
#: Names of the library's classes and of Python's values.
FOREIGN = re.compile(r"\b(a Config|a Cascade|None|PosixPath|Traceback|invalid \w+ value)\b")


def options() -> Iterator[tuple[str, str]]:
    """Every command and option with a value."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in COMMANDS:
        command.add(commands)

    def walk(parser: argparse.ArgumentParser, name: str) -> Iterator[tuple[str, str]]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for word, inner in action.choices.items():
                    yield from walk(inner, f"{name} {word}".strip())
            elif action.option_strings and action.nargs != 0:
                yield name, action.option_strings[-1]

    yield from walk(parser, "")


def test_all_commands_are_walked() -> None:
    found = set(options())
    assert {("verilog", "--set"), ("board build", "--memory-bytes"), ("explore", "--bus"), ("run", "--layer")} <= found
    assert len(found) > 50


@pytest.mark.parametrize(("command", "option"), [pair for pair in options() if pair[1] not in FREE])
def test_wrong_values(
    command: str, option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for value in VALUES:
        if (option, value) in ALLOWED:
            continue
        try:
            status = main([*command.split(), *RIGHT.get(command, []), option, value])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        captured = capsys.readouterr()
        assert status in (1, 2), (value, captured)
        assert captured.out == ""
        last = captured.err.splitlines()[-1]
        assert "error: " in last
        assert not FOREIGN.search(captured.err), captured.err
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("board build ulx3s_85f --baud 0", "must be a whole number from 1 to 2147483647, not '0'"),
        ("board build ulx3s_85f --clock-mhz=-5", "must be a number from 1 to 1000, not '-5'"),
        ("board build ulx3s_85f --clock-mhz inf", "must be a number from 1 to 1000, not 'inf'"),
        ("board build ulx3s_85f --clock-mhz nan", "must be a number from 1 to 1000, not 'nan'"),
        ("board build ulx3s_85f --clock-mhz 1e9", "must be a number from 1 to 1000, not '1e9'"),
        ("board info --port absent --latency=-1", "must be a number from 1e-06 to 60, not '-1'"),
        ("board info --port absent --latency nan", "must be a number from 1e-06 to 60, not 'nan'"),
        ("run --timeout inf", "must be a finite number greater than 0, not 'inf'"),
    ],
)
def test_the_sentence_is_true(arguments: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(arguments.split())
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["passes", "compile"])
def test_a_file_without_suffix_is_a_path(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fusemax.cascade.catalog import DIRECTORY

    monkeypatch.chdir(tmp_path)
    assert main([command, "./absent"]) == 1
    assert capsys.readouterr().err == "error: No such file or directory: 'absent'\n"
    (tmp_path / "there").write_text((DIRECTORY / "attention_1pass.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("./there", "there"):
        assert main([command, name, *(["-o", "out"] if command == "compile" else [])]) == 0

"""``--config``, ``--set`` and ``--name``: the machine that they ask for, and what is wrong with those that ask for none."""

from __future__ import annotations

import argparse
import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

import fusemax
from fusemax.cli import main
from fusemax.cli.machine import FIELDS, LONGEST_NAME, add_machine, changed, machine
from fusemax.spec import CONFIGS, Config
from fusemax_sim import problems

#: What the tutorial emits: 5 x 7 PEs and a bus of 128 bits.
FIVE_BY_SEVEN = ("--config", "small", "--set", "rows=5", "--set", "columns=7", "--set", "bus_bits=128")
NAME = "small_rows5_columns7_bus_bits128"
EXPECTED = replace(CONFIGS["small"], rows=5, columns=7, bus_bits=128, name=NAME)


def asked(*arguments: str, default: str | None = "small") -> Config:
    parser = argparse.ArgumentParser()
    add_machine(parser, default)
    return machine(parser.parse_args(arguments))


def test_a_shipped_machine() -> None:
    assert asked() == CONFIGS["small"]
    assert asked("--config", "base") == CONFIGS["base"]


def test_a_machine_of_one_s_own() -> None:
    assert asked(*FIVE_BY_SEVEN) == EXPECTED
    assert asked(*FIVE_BY_SEVEN, "--name", "mine") == replace(EXPECTED, name="mine")
    assert asked("--name", "mine") == replace(CONFIGS["small"], name="mine")


def test_every_field_can_be_set() -> None:
    assert set(FIELDS) == {field.name for field in fields(Config)} - {"name"}
    for field in FIELDS:
        value = getattr(CONFIGS["base"], field)
        other = asked("--config", "small", "--set", f"{field}={value:d}")
        assert getattr(other, field) == value


def test_names_tell_what_was_changed_whatever_the_order() -> None:
    small = CONFIGS["small"]
    assert (
        changed(small, {"columns": 7, "rows": 5}).name
        == changed(small, {"rows": 5, "columns": 7}).name
        == "small_rows5_columns7"
    )
    assert changed(small, {"rows": 8}) == small
    # Zero contexts are as many as are needed: the name has their number.
    assert changed(CONFIGS["base"], {"contexts": 0}).name == "base_contexts3"
    assert asked("--set", "rows=4", "--set", "rows=5").name == "small_rows5"


def test_long_names_are_shortened_and_stay_different() -> None:
    many = {"rows": 5, "columns": 7, "max_e": 63, "max_f": 65, "bus_bits": 128, "address_bits": 32, "outstanding_reads": 3}
    many |= {"outstanding_writes": 5, "query_tiles": 3}
    names = {changed(CONFIGS["small"], many | {"outstanding_writes": writes}).name for writes in range(5, 9)}
    assert len(names) == 4
    assert all(len(name) <= LONGEST_NAME for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "rows=1"), "rows must be from 2 to 256, not 1"),
        (("--set", "bus_bits=100"), "bus_bits must be one of 32, 64, 128, 256, 512, 1024, not 100"),
        (("--set", "query_tiles=-3"), "query_tiles must be from 1 to 64, not -3"),
        (("--name", "a-b"), "name must be letters, digits and underscores, not 'a-b'"),
        (("--name", "base"), "--name must not be that of another configuration (tiny, small, base, wide, paper), not 'base'"),
    ],
)
def test_values_that_are_wrong(arguments, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        asked(*arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize("arguments", [("--set", "rows=5"), ("--name", "mine")])
def test_changes_of_nothing(arguments) -> None:
    with pytest.raises(ValueError, match=r"^--set and --name must come with --config$"):
        asked(*arguments, default=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows", "must be FIELD=NUMBER as in rows=5, not 'rows'"),
        ("rows=", "rows must be a whole number, not ''"),
        ("rows=x", "rows must be a whole number, not 'x'"),
        ("rows=5.5", "rows must be a whole number, not '5.5'"),
        ("functions=true", "functions must be 0 or 1, not 'true'"),
        ("functions=2", "functions must be 0 or 1, not '2'"),
        ("cows=3", f"the field must be one of {', '.join(FIELDS)}, not 'cows'"),
        ("name=3", f"the field must be one of {', '.join(FIELDS)}, not 'name'"),
        ("=3", f"the field must be one of {', '.join(FIELDS)}, not ''"),
    ],
)
@pytest.mark.parametrize("command", [["verilog"], ["compile"], ["run"], ["bench"], ["info"], ["board", "build", "ulx3s_85f"]])
def test_settings_that_are_none(command: list[str], text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--set", text])
    assert stopped.value.code == 2
    # The help's lines are wrapped, the error's are not.
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument --set: {message}")


# -- the commands --------------------------------------------------------------------------------------------------


def test_verilog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("amaranth")
    monkeypatch.chdir(tmp_path)
    assert main(["verilog", *FIVE_BY_SEVEN, "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    directory = tmp_path / "build" / "verilog" / NAME
    assert manifest == json.loads((directory / "manifest.json").read_text())
    assert Config(**manifest["config"]) == EXPECTED
    assert {port["name"]: port["bits"] for port in manifest["ports"]}["m_axi_rdata"] == 128
    beside = {"manifest.json", "fusemax.md", "fusemax.core", "fusemax.h", "fusemax_driver.h", "fusemax_driver.c"}
    assert {path.name for path in directory.iterdir()} == {*manifest["files"], *beside}
    assert f"name: fusemax:ip:{NAME}:" in (directory / "fusemax.core").read_text()


def test_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compile", *FIVE_BY_SEVEN, "--head-dim", "16", "-o", str(tmp_path), "--json"]) == 0
    assert Config(**json.loads(capsys.readouterr().out)["config"]) == EXPECTED
    program = fusemax.compile("attention_1pass", head_dim=16, value_dim=16, config=EXPECTED)
    assert (tmp_path / "program.bin").read_bytes() == program.to_bytes()


def test_run_on_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--device", "model", *FIVE_BY_SEVEN, "--heads", "1", "-o", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["correct"]
    assert Config(**found["config"]) == EXPECTED


@pytest.mark.cosim
def test_run_on_the_verilog(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A machine that other tests simulate: one simulator does for all."""
    arguments = ["--config", "tiny", "--set", "rows=3", "--set", "columns=5", "--set", "contexts=0", "--name", "odd3x5"]
    assert main(["run", *arguments, "--heads", "1", "-o", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert Config(**found["config"]) == problems.CONFIGS["odd3x5"]
    assert [call["as_model"] for call in found["calls"]] == [True]


def test_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--shape", "1x8x8x4x4", "--modelled", "-o", str(tmp_path / "bench.json"), "--json"]
    assert main(["bench", *FIVE_BY_SEVEN, *arguments]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["config"] == NAME
    assert Config(**row["machine"]) == EXPECTED
    assert row["utilisation"] == pytest.approx(8 * 8 * 8 / (35 * row["cycles"]), abs=1e-5)
    # Without --config it is base that is changed; another machine under the same name has a row of its own.
    assert main(["bench", "--set", "rows=5", "--name", NAME, *arguments]) == 0
    assert len(json.loads((tmp_path / "bench.json").read_text())["rows"]) == 2


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", *FIVE_BY_SEVEN, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["configurations"].values()
    assert (found["name"], found["peak_macs_per_cycle"]) == (NAME, 35)
    assert main(["info", "--set", "rows=5"]) == 1
    assert "--set and --name must come with --config" in capsys.readouterr().err

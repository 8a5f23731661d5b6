"""Digest and errors of the build; the tools themselves are used only where they fail at once."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from fusemax.spec import CONFIGS
from fusemax_sim import BuildError, toolchain
from fusemax_sim.build import NAMELESS, build, simulator_digest, translate, waveform_flags, wrapper_sources
from fusemax_sim.emission import emitted
from fusemax_sim.plain_paths import PlainPaths
from fusemax_sim.waveform import Waveform

TINY = CONFIGS["tiny"]


def test_what_is_in_the_cache_is_found_at_once(standin: Path) -> None:
    executable = build(TINY, verilog=standin)
    written = executable.stat().st_mtime_ns
    assert build(TINY, verilog=standin) == executable
    assert executable.stat().st_mtime_ns == written


def test_the_digest_follows_everything_that_is_compiled(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [standin / "fusemax.v"]
    digest = simulator_digest(TINY, sources, [], [])
    assert simulator_digest(TINY, sources, [], []) == digest
    assert simulator_digest(TINY, sources, ["fusemax_pe"], []) != digest
    formats = {simulator_digest(TINY, sources, [], waveform_flags(Waveform(f"a.{kind}"))) for kind in ("fst", "vcd")}
    assert len({digest, *formats}) == 3
    assert simulator_digest(CONFIGS["base"], sources, [], []) != digest
    changed = tmp_path / "fusemax.v"
    changed.write_text(sources[0].read_text() + "\n")
    assert simulator_digest(TINY, [changed], [], []) != digest
    monkeypatch.setattr(toolchain, "tool_versions", lambda: {"compiler": "another"})
    assert simulator_digest(TINY, sources, [], []) != digest


@pytest.mark.parametrize(("missing", "package"), [("g++", "g++"), ("make", "make")])
def test_a_missing_program_names_its_package(
    missing: str, package: str, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"g++", "make"} - {missing}:
        (programs / name).symlink_to(toolchain.program(name, name))
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError) as raised:
        build(TINY, verilog=standin)
    assert str(raised.value) == f"{missing} must be installed to build the simulator: apt-get install {package}"


def test_a_missing_compression_library_names_its_package(
    standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/sh\ncase $1 in -print-file-name=*) echo "${1#*=}";; *) echo compiler 1.0;; esac\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(BuildError) as raised:
        build(TINY, Waveform("a.fst"), verilog=standin)
    wanted = "liblz4.so.1 must be installed to write *.fst: apt-get install liblz4-1; or let the trace end in .vcd"
    assert str(raised.value) == wanted


def test_signals_that_synthesis_has_made_up_are_known_by_their_names() -> None:
    lines = [
        r"  wire [31:0] net_10 ;",
        r"  reg net_signal_17  = 1'h0;",
        r"  wire net_procmux_808_Y ;",
        r"  wire [6:0] address;",
        r"  reg [5:0] \output  = 6'h00;",
        r"  assign net_1  = net_2 ;",
    ]
    assert NAMELESS.findall("\n".join(lines)) == lines[:3]


def test_instances_of_a_module_are_one_code(tmp_path: Path) -> None:
    verilog = emitted(TINY)
    repeated = json.loads((verilog / "manifest.json").read_text())["repeated_modules"]
    assert "fusemax_pe" in repeated
    with PlainPaths() as plain:
        translate(TINY, sorted(verilog.glob("*.v")), repeated, [], tmp_path, plain)
    code = "".join(path.read_text() for path in sorted(tmp_path.glob("Vtop_fusemax_pe*.cpp")))
    functions = re.findall(r"^void (Vtop_fusemax_pe___nba_\w+)\(", code, re.MULTILINE)
    # By itself, a PE has five or six.
    assert 0 < len(functions) < 2 * TINY.rows * TINY.columns


def test_a_missing_python_package_is_named() -> None:
    with pytest.raises(BuildError, match=r"^the Python package no_such_tool must be installed: pip install no_such_tool$"):
        toolchain.package_directory("no_such_tool")


def test_verilog_that_does_not_compile_shows_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "fusemax.v").write_text("module fusemax(input clk, output nonsense_port);\n  assign nonsense = ;\nendmodule\n")
    with pytest.raises(BuildError, match=r"(?s)^verilator_bin failed with status 1:.*syntax error"):
        build(TINY, verilog=tmp_path)


def test_cplusplus_that_does_not_compile_shows_why(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    compiler = tmp_path / "broken-c++"
    compiler.write_text("#!/bin/sh\necho broken compiler 1.0\n[ $1 = --version ]\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    with pytest.raises(BuildError, match=r"(?s)^make failed with status 2:.*broken compiler 1.0"):
        build(TINY, verilog=standin)


def test_a_directory_without_verilog_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"^verilog must be a directory with \*\.v files, not "):
        build(TINY, verilog=tmp_path)


@pytest.mark.parametrize("bus_bits", [32, 64, 1024])
def test_the_wrapper_has_no_lint_warnings(bus_bits: int, standin: Path, tmp_path: Path) -> None:
    device = tmp_path / "fusemax.v"
    text = (standin / "fusemax.v").read_text().replace("parameter BUS_BITS = 64", f"parameter BUS_BITS = {bus_bits}")
    device.write_text("/* verilator lint_off WIDTH */ /* verilator lint_off UNUSEDSIGNAL */\n" + text)
    command = [
        *(str(toolchain.verilator_root() / "bin" / "verilator_bin"), "--lint-only", "--timing", "--top-module", "sim_top"),
        *("-Wall", "-Wno-BLKSEQ", "-Wno-PROCASSINIT", "-Wno-PINCONNECTEMPTY", f"-GBUS_BITS={bus_bits}"),
        *("+define+WAVEFORM", *(str(path) for path in wrapper_sources(traced=True) if path.suffix == ".sv")),
        str(device),
    ]
    environment = {"VERILATOR_ROOT": str(toolchain.verilator_root())}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    warnings = [line for line in result.stderr.splitlines() if line.startswith("%") and "/fusemax.v:" not in line]
    assert warnings == [], result.stderr

"""Cache, lock and errors of the build; the tools themselves are used only where they fail at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fusemax.spec import CONFIGS
from fusemax_sim import BuildError, tools
from fusemax_sim.build import WRAPPER, build, cache_directory, cached, simulator_digest

TINY = CONFIGS["tiny"]


def test_what_is_in_the_cache_is_found_at_once(standin: Path) -> None:
    start = time.monotonic()
    executable = build(TINY, verilog=standin)
    assert executable.is_file()
    assert time.monotonic() - start < 0.5


def test_the_digest_follows_everything_that_is_compiled(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [standin / "fusemax.v"]
    digest = simulator_digest(TINY, sources, [], False)
    assert simulator_digest(TINY, sources, [], False) == digest
    assert simulator_digest(TINY, sources, ["fusemax_pe"], False) != digest
    assert simulator_digest(TINY, sources, [], True) != digest
    assert simulator_digest(CONFIGS["base"], sources, [], False) != digest
    changed = tmp_path / "fusemax.v"
    changed.write_text(sources[0].read_text() + "\n")
    assert simulator_digest(TINY, [changed], [], False) != digest
    monkeypatch.setattr(tools, "tool_versions", lambda: {"compiler": "another"})
    assert simulator_digest(TINY, sources, [], False) != digest


LOCK_SCRIPT = """
import sys, time
from pathlib import Path
from fusemax_sim.build import cached
def make(target):
    with open(sys.argv[1], "a") as file:
        file.write("made\\n")
    time.sleep(0.5)
    (target / "result").write_text("complete")
print((cached("thing", make) / "result").read_text())
"""


def test_of_parallel_builds_one_works_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", ":".join(path for path in sys.path if path))
    command = [sys.executable, "-c", LOCK_SCRIPT, str(tmp_path / "log")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=20)[0] for process in processes] == ["complete\n"] * 3
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path))

    def fail(target: Path) -> None:
        (target / "half").write_text("")
        raise BuildError("no")

    with pytest.raises(BuildError):
        cached("thing", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]
    assert cached("thing", lambda target: None).is_dir()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FUSEMAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "fusemax"
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"


@pytest.mark.parametrize(("missing", "package"), [("g++", "g++"), ("make", "make")])
def test_a_missing_program_names_its_package(
    missing: str, package: str, standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in {"g++", "make"} - {missing}:
        (programs / name).symlink_to(tools.program(name, name))
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BuildError) as raised:
        build(TINY, verilog=standin)
    assert str(raised.value) == f"{missing} must be installed to build the simulator: apt-get install {package}"


def test_a_missing_python_package_is_named() -> None:
    with pytest.raises(BuildError, match=r"^the Python package no_such_tool must be installed: pip install no_such_tool$"):
        tools.package_directory("no_such_tool")


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
        *(str(tools.verilator_root() / "bin" / "verilator_bin"), "--lint-only", "--timing", "--top-module", "sim_top"),
        *("-Wall", "-Wno-BLKSEQ", "-Wno-PROCASSINIT", "-Wno-PINCONNECTEMPTY", f"-GBUS_BITS={bus_bits}"),
        *(str(path) for path in sorted(WRAPPER.glob("*.sv"))),
        str(device),
    ]
    environment = {"VERILATOR_ROOT": str(tools.verilator_root())}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    warnings = [line for line in result.stderr.splitlines() if line.startswith("%") and "/fusemax.v:" not in line]
    assert warnings == [], result.stderr

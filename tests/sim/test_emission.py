"""The digest of the Verilog covers what an emission reads, and nothing that it does not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fusemax.spec import CONFIGS, Config
from fusemax_sim import emission
from fusemax_sim.emission import MACHINE, SYSTEM, emission_digest, emission_sources
from fusemax_sim.toolchain import package_directory

TINY = CONFIGS["tiny"]
PACKAGES = ("fusemax", "fusemax_hw")

#: Emits with a package ``fusemax`` whose ``__init__`` is not run, and tells all files of both packages that were opened or run.
EMIT = """
import json, sys, types
from pathlib import Path
host, directory = Path(sys.argv[1]), Path(sys.argv[2])
opened = set()
sys.addaudithook(lambda event, arguments: opened.add(str(arguments[0])) if event == "open" else None)
sys.modules["fusemax"] = types.ModuleType("fusemax")
sys.modules["fusemax"].__path__ = [str(host)]
from fusemax.spec import CONFIGS
{emit}
modules = {module.__file__ for module in sys.modules.values() if getattr(module, "__file__", None)}
print(json.dumps(sorted(modules | opened)))
"""
EMISSIONS = {
    MACHINE: "from fusemax_hw.emit import emit\nemit('tiny', directory)",
    SYSTEM: """
from fusemax_hw.boards.system import System
from fusemax_hw.emit import write_modules
config = CONFIGS["tiny"]
system = System(config, divisor=8, memory_bytes=8192)
write_modules(system, system.module_name, config, directory)
""",
}


@pytest.fixture(scope="module")
def sources() -> dict[str, set[Path]]:
    return {top: set(emission_sources(top)) for top in (MACHINE, SYSTEM)}


@pytest.mark.parametrize("top", [MACHINE, SYSTEM])
def test_everything_that_an_emission_reads_is_covered(top: str, tmp_path: Path, sources: dict[str, set[Path]]) -> None:
    script = EMIT.replace("{emit}", EMISSIONS[top])
    command = [sys.executable, "-W", "ignore", "-c", script, str(package_directory("fusemax")), str(tmp_path)]
    read = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    ours = {Path(name) for name in read for package in PACKAGES if package_directory(package) in Path(name).parents}
    ours = {path for path in ours if path.suffix != ".pyc" and path.is_file()}
    assert len(ours) > 60
    assert ours <= sources[top]


def test_the_digest_follows_the_configuration_and_the_top() -> None:
    assert emission_digest(TINY) == emission_digest(TINY)
    assert len({emission_digest(TINY), emission_digest(CONFIGS["small"]), emission_digest(TINY, SYSTEM)}) == 3


@pytest.mark.parametrize(
    ("file", "tops"),
    [
        ("fusemax_hw/boards/build.py", set()),
        ("fusemax_hw/boards/ulx3s_85f.py", set()),
        ("fusemax/__init__.py", set()),
        ("fusemax/cli/verilog.py", set()),
        ("fusemax/spec/export.py", set()),
        ("fusemax_hw/boards/system.py", {SYSTEM}),
        ("fusemax_hw/bridge/sender.py", {SYSTEM}),
        ("fusemax_hw/memory/block_memory.py", {SYSTEM}),
        ("fusemax_hw/__init__.py", {MACHINE, SYSTEM}),
        ("fusemax_hw/control/job_table.py", {MACHINE, SYSTEM}),
        ("fusemax_hw/emit.py", {MACHINE, SYSTEM}),
        ("fusemax_hw/memory/fusemax_ram.v", {MACHINE, SYSTEM}),
        ("fusemax_hw/lint.vlt", {MACHINE, SYSTEM}),
        ("fusemax/spec/isa.py", {MACHINE, SYSTEM}),
        ("fusemax/arith/exp2.py", {MACHINE, SYSTEM}),
    ],
)
def test_what_a_file_is_part_of(file: str, tops: set[str], sources: dict[str, set[Path]]) -> None:
    package, _, name = file.partition("/")
    path = package_directory(package) / name
    assert path.is_file()
    assert {top for top, files in sources.items() if path in files} == tops


def test_the_digest_follows_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.py", tmp_path / "second.v"
    monkeypatch.setattr(emission, "package_directory", lambda package: tmp_path / package)
    monkeypatch.setattr(emission, "emission_sources", lambda top: [first, second])
    digests = set()
    for texts in (("a", "b"), ("a", "c"), ("d", "c"), ("", "dc")):
        for path, text in zip((first, second), texts, strict=True):
            path.write_text(text)
        digests.add(emission_digest(TINY))
    assert len(digests) == 4


def test_the_digest_does_not_depend_on_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = emission_digest(TINY)
    # As in a wheel: both packages in one directory.
    for package in PACKAGES:
        shutil.copytree(package_directory(package), tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(emission, "package_directory", lambda package: tmp_path / package)
    assert emission_digest(TINY) == before


def test_an_old_module_in_memory_is_not_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is of the files, so the text is too, whatever was imported before they were changed."""
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "fusemax_hw.emit", SimpleNamespace(emit=lambda config, directory: None))
    smallest = Config(name="two", rows=2, columns=2, max_e=1, max_f=1, bus_bits=32, contexts=2, query_tiles=1)
    directory = emission.emitted(smallest)
    assert (directory / "fusemax.v").is_file()
    assert emission.verilog_digest(smallest) == json.loads((directory / "manifest.json").read_text())["sha256"]

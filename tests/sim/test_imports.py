"""What a module is made of, told by its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemax_sim.imports import imported_files

FILES = {
    "host/__init__.py": "from .everything import nothing",
    "host/everything.py": "",
    "host/spec/__init__.py": "from .config import Config",
    "host/spec/config.py": "",
    "host/spec/other.py": "",
    "hard/__init__.py": "",
    "hard/top.py": "import json\nfrom host.spec import Config\nfrom .control import walker\ndef emit():\n from .late import x",
    "hard/late.py": "from .control.walker import step",
    "hard/control/__init__.py": "from . import job",
    "hard/control/walker.py": "from ..top import emit",
    "hard/control/job.py": "",
    "hard/control/unused.py": "",
    "hard/boards/__init__.py": "",
    "hard/boards/board.py": "import hard.control.job\nfrom host.spec.other import x",
    "hard/memory.v": "module",
    "hard/boards/pins.txt": "A1",
}
TOP = {
    "host/spec/__init__.py",
    "host/spec/config.py",
    "hard/top.py",
    "hard/late.py",
    "hard/control/__init__.py",
    "hard/control/walker.py",
    "hard/control/job.py",
    "hard/memory.v",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def found(tree: Path, *modules: str) -> set[str]:
    packages = {name: tree / name for name in ("host", "hard")}
    return {path.relative_to(tree).as_posix() for path in imported_files(modules, packages)}


def test_imports_of_imports(tree: Path) -> None:
    assert found(tree, "hard.top") == TOP


def test_packages_and_files_beside_them(tree: Path) -> None:
    board = {"hard/boards/__init__.py", "hard/boards/board.py", "hard/boards/pins.txt"}
    control = {"hard/control/__init__.py", "hard/control/job.py"}
    spec = {"host/spec/__init__.py", "host/spec/config.py", "host/spec/other.py"}
    assert found(tree, "hard.boards.board") == board | control | spec


@pytest.mark.parametrize("text", ["from host import Config", "import host", "from host import spec, Config"])
def test_the_whole_host_cannot_be_followed(tree: Path, text: str) -> None:
    (tree / "hard/late.py").write_text(text)
    with pytest.raises(ValueError, match=r"^hard.late must import from the parts of host, not from host itself$"):
        found(tree, "hard.top")


def test_a_part_of_the_host_can(tree: Path) -> None:
    (tree / "hard/late.py").write_text("from host import spec")
    assert found(tree, "hard.top") == TOP


def test_what_is_not_there(tree: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^there is no module hard.nothing$"):
        found(tree, "hard.nothing")

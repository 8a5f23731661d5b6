"""The map of the code lists every folder, in an order in which each imports only from those above it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from doc_pages import ROOT

PACKAGE = ROOT / "sw" / "fusemax"
PAGE = (ROOT / "docs" / "explanation" / "map-of-the-code.md").read_text(encoding="utf-8")


def listed(heading: str) -> list[str]:
    """Return the folders and files in the first column under a heading."""
    section = PAGE.partition(f"## {heading}")[2].partition("\n## ")[0]
    return [name for cell in re.findall(r"^\| (`.*?) \|", section, flags=re.M) for name in re.findall(r"`([\w.]+)`", cell)]


def folders(package: Path) -> set[str]:
    """Return the folders of a package."""
    return {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}


def imported(file: Path) -> set[str]:
    """Return the folders of the package from which a file imports by relative names."""
    here = file.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found |= {(*here[: len(here) - node.level + 1], *name.split("."))[0] for name in names}
    return found


def test_every_folder_is_listed() -> None:
    assert set(listed("Host")) == folders(PACKAGE)
    assert {name for name in listed("Hardware") if "." not in name} == folders(ROOT / "hw" / "fusemax_hw")


def test_folders_import_from_those_above() -> None:
    order = listed("Host")
    for number, folder in enumerate(order):
        for file in (PACKAGE / folder).rglob("*.py"):
            assert not imported(file) & set(order[number + 1 :]), f"{file} imports from a folder below its own"

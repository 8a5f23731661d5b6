"""Imports among the modules of fusemax_sim have no circle, those inside functions and for types counted."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import fusemax_sim

ROOT = Path(fusemax_sim.__file__).parent


def imports(root: Path) -> dict[str, set[str]]:
    """Modules of the package that each of its modules imports."""
    modules = {".".join((root.name, *path.relative_to(root).with_suffix("").parts)): path for path in root.rglob("*.py")}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    found: dict[str, set[str]] = {}
    for name, path in modules.items():
        package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
        found[name] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])] if node.level else [])
                base = base or node.module or ""
                names = {f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base for alias in node.names}
            elif isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            else:
                continue
            found[name] |= names & modules.keys() - {name}
    return found


def test_there_is_no_circle() -> None:
    graph = imports(ROOT)
    assert graph["fusemax_sim.rtl_transport"] >= {"fusemax_sim.build", "fusemax_sim.memory"}
    TopologicalSorter(graph).prepare()


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Through a function, through types and through a package."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from .first import a")
    (package / "first.py").write_text("def a():\n    from . import second")
    (package / "second.py").write_text("if TYPE_CHECKING:\n    from .first import a")
    with pytest.raises(CycleError):
        TopologicalSorter(imports(package)).prepare()

"""The layout of the code: no circle of imports, few files at the root, imports inside functions only for optional extras."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"fusemax": ROOT / "sw", "fusemax_hw": ROOT / "hw", "fusemax_sim": ROOT / "sim"}
#: What ``pip install fusemax`` alone does not bring along.
OPTIONAL = {
    "amaranth", "amaranth_boards", "cocotb", "distributed", "fusemax_hw", "fusemax_sim", "matplotlib", "rich", "serial",
    "torch", "triton", "yaml",
}  # fmt: skip
#: Files of our own that only work with an extra: who imports them inside a function has met the extra first.
NEED_EXTRAS = {
    "fusemax.board.connection",
    "fusemax.board.loading",
    "fusemax.board.port",
    "fusemax.cuda",
    "fusemax.evaluation.cluster",
}


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package, parent in PACKAGES.items():
        for path in sorted((parent / package).rglob("*.py")):
            name = ".".join(path.relative_to(parent).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(name: str, tree: ast.AST) -> Iterator[str]:
    """Names of all modules that a part of a module imports, also for types only; ours as far as they are files."""
    path = modules()[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in modules() else base


@cache
def graph() -> dict[str, set[str]]:
    return {
        name: {target for target in imports(name, ast.parse(path.read_text(encoding="utf-8"))) if target in modules()} - {name}
        for name, path in modules().items()
    }


def circles(arrows: dict[str, set[str]]) -> list[str]:
    """Nodes that are left when those without arrows to nodes that are left are taken away, again and again."""
    left = {node: set(targets) for node, targets in arrows.items()}
    while ends := [node for node, targets in left.items() if not targets]:
        for node in ends:
            del left[node]
        left = {node: {target for target in targets if target in left} for node, targets in left.items()}
    return sorted(left)


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": set(), "c": {"d"}, "d": {"c"}, "e": {"d"}}) == ["c", "d", "e"]


def test_no_circle_of_files() -> None:
    assert circles(graph()) == []


def test_no_circle_of_packages() -> None:
    """Of the packages within ``fusemax``; the ones at the top import what they like of each other's files."""

    def package(name: str) -> str:
        return ".".join(name.split(".")[:2])

    arrows: dict[str, set[str]] = {}
    for name, targets in graph().items():
        if name.startswith("fusemax."):
            mine = arrows.setdefault(package(name), set())
            mine |= {package(target) for target in targets if target.startswith("fusemax.")} - {package(name)}
    assert circles(arrows) == []


def test_few_files_at_the_root() -> None:
    assert len(list((ROOT / "sw" / "fusemax").glob("*.py"))) <= 5


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def needs_extra(name: str) -> bool:
    """Whether a module is of an extra, or is one of ours that imports one at its top."""
    if name.split(".")[0] in OPTIONAL or name in NEED_EXTRAS:
        return True
    if name not in modules():
        return False
    top = [
        node for node in ast.parse(modules()[name].read_text(encoding="utf-8")).body if not isinstance(node, ast.FunctionDef)
    ]
    return any(target.split(".")[0] in OPTIONAL for node in top for target in imports(name, node))


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_inside_functions_are_of_optional_extras(package: str) -> None:
    for name, path in modules().items():
        if name.split(".")[0] == package:
            wrong = [
                f"{path.relative_to(ROOT)}: {function.name} imports {target}"
                for function in functions(ast.parse(path.read_text(encoding="utf-8")))
                if not any(map(needs_extra, imports(name, function)))
                for target in imports(name, function)
            ]
            assert wrong == []


def test_elaborate_is_a_table_of_contents() -> None:
    for path in (PACKAGES["fusemax_hw"] / "fusemax_hw").rglob("*.py"):
        for function in functions(ast.parse(path.read_text(encoding="utf-8"))):
            if function.name == "elaborate":
                assert function.end_lineno - function.lineno < 120, path  # type: ignore[operator]


def test_a_long_class_says_why() -> None:
    for path in modules().values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and "class is long because" not in (ast.get_docstring(node) or ""):
                assert node.end_lineno - node.lineno < 300, f"{node.name} in {path.relative_to(ROOT)}"  # type: ignore[operator]

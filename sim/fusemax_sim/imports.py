"""Source files that a module of the hardware is made of, found by its imports and without importing anything."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

__all__ = ["imported_files"]

#: Python up to 3.11.7 and 3.12.1 cannot parse in two threads at once: https://github.com/python/cpython/issues/106905.
PARSING = threading.Lock()


def imported_files(modules: tuple[str, ...], packages: Mapping[str, Path]) -> list[Path]:
    """Collect the files of modules, of what they import, and so on; imports inside functions and for types count.

    Parameters
    ----------
    modules
        Names of the modules to begin with.
    packages
        Packages to look into, with their directories. Imports of anything else are passed over.

    Returns
    -------
    The modules' sources, those of the packages that they are in (but not of ``packages`` themselves, whose ``__init__`` may
    import much more), and every other file beside them, which they may read.

    Raises
    ------
    ValueError
        If a module imports from one of ``packages`` itself: what that is made of cannot be told.
    FileNotFoundError
        If one of ``modules`` is not there.
    """
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        path = _source(name, packages)
        if path is None:
            raise FileNotFoundError(f"there is no module {name}")
        found[name] = path
        parents = name.split(".")[1:-1]
        waiting += [".".join(name.split(".")[: depth + 2]) for depth in range(len(parents))]
        waiting += _imports(name, path, packages)
    sources = set(found.values())
    data = {
        path
        for directory in {source.parent for source in sources}
        for path in directory.iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    return sorted(sources | data)


def _source(name: str, packages: Mapping[str, Path]) -> Path | None:
    """File of a module or package, or None if there is none."""
    package, *parts = name.split(".")
    path = packages[package].joinpath(*parts)
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if parts and file.is_file()), None)


def _imports(name: str, path: Path, packages: Mapping[str, Path]) -> Iterator[str]:
    """Names of the modules of ``packages`` that a module imports."""
    inside = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    with PARSING:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            origins = [(alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = inside[: len(inside) - node.level + 1] if node.level else []
            origins = [(".".join((*above, *filter(None, [node.module]))), tuple(alias.name for alias in node.names))]
        else:
            continue
        for origin, members in origins:
            if origin.split(".")[0] not in packages:
                continue
            # A member is a module of its own, or something that ``origin`` defines.
            inner = [f"{origin}.{member}" for member in members if _source(f"{origin}.{member}", packages)]
            yield from inner
            if origin not in packages:
                yield origin
            elif len(inner) != len(members) or not members:
                raise ValueError(f"{name} must import from the parts of {origin}, not from {origin} itself")

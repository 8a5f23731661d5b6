"""Which tests are for a file, and one change tried on them."""

from __future__ import annotations

import ast
import atexit
import hashlib
from functools import cache
from typing import Any

from .changes import changes
from .server import DESELECT, ROOT, Server

__all__ = ["AREAS", "Stage", "digest", "stages", "try_change"]

#: Folders whose files are changed.
AREAS = ("hw/fusemax_hw", "sw/fusemax/model", "sw/fusemax/planning", "sw/fusemax/runtime")
#: Tests beyond the file's own folder, for what that folder does not notice: whole calls, then everything of that side.
WIDE = {
    "hw": (
        (("tests/cosim/test_calls.py", "tests/cosim/test_ring.py", "tests/cosim/test_faults.py"), "cosim"),
        (("tests/hw",), DESELECT),
    ),
    "sw": ((("tests/sw/model", "tests/sw/planning", "tests/sw/runtime", "tests/sw/api"), DESELECT),),
}
#: Seconds of processor time that a stage may take; without a change none takes half as long.
SECONDS = 1200.0

#: Tests that are run together, and the marks that choose among them.
Stage = tuple[tuple[str, ...], str]


def stages(path: str, near: bool) -> list[Stage]:
    """Tests for a file, the nearest first: at the mirrored path, in the mirrored folder, and beyond it if not ``near``."""
    folder, _, name = path.rpartition("/")
    folder = folder.replace("hw/fusemax_hw", "tests/hw", 1).replace("sw/fusemax", "tests/sw", 1)
    mirrored = f"{folder}/test_{name}"
    while not (ROOT / folder).is_dir():
        folder = folder.rpartition("/")[0]
    found: list[Stage] = []
    others = sorted(str(file.relative_to(ROOT)) for file in (ROOT / folder).glob("test_*.py"))
    if mirrored in others:
        found.append(((mirrored,), DESELECT))
        others.remove(mirrored)
    if others:
        found.append((tuple(others), DESELECT))
    return found if near else [*found, *WIDE[path.partition("/")[0]]]


@cache
def digest(path: str) -> str:
    """Digest of a file and of all tests of the folders that its stages are in."""
    folders = {
        ROOT / test if (ROOT / test).is_dir() else (ROOT / test).parent
        for tests, _ in stages(path, near=True)
        for test in tests
    }
    files = [ROOT / path, *sorted({file for folder in folders for file in folder.rglob("*.py")})]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:16]


@cache
def server() -> Server:
    """This process' server."""
    made = Server()
    atexit.register(made.close)
    return made


@cache
def passes_unchanged(test: str) -> bool:
    """Whether a test passes on the code as it is; else it says nothing."""
    return server().run("pyproject.toml", None, (test,), SECONDS, "")["status"] == "passed"


def try_change(path: str, name: str, trials: list[Stage]) -> dict[str, Any]:
    """Make a change and run stage after stage until one fails.

    Raises
    ------
    RuntimeError
        If the test that fails does so without the change, too.
    """
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    (change,) = (change for change in changes(tree) if change.name == name)
    change.make()
    text = ast.unparse(ast.fix_missing_locations(tree))
    row = {"status": "passed", "seconds": 0.0, "by": ""}
    for tests, marks in trials:
        answer = server().run(path, text, tests, SECONDS, marks)
        row = answer | {"seconds": round(row["seconds"] + answer["seconds"], 2)}
        if row["status"] == "failed" and "::" in row["by"] and not passes_unchanged(row["by"]):
            raise RuntimeError(f"{row['by']} fails without a change, too")
        if row["status"] != "passed":
            break
    return row

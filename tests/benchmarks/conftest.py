"""Scripts of benchmarks/, imported as they import each other."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

DIRECTORY = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a script by name; it and the scripts that it imports are forgotten afterwards."""
    monkeypatch.syspath_prepend(DIRECTORY)
    before = set(sys.modules)
    yield import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(DIRECTORY)):
            del sys.modules[name]

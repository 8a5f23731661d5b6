"""Modules for which a package is missing say which one, and how to get it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from fusemax.errors import MissingExtraError
from fusemax.runtime.optional import need


def test_what_is_there_is_not_named() -> None:
    need("some", "numpy")
    with pytest.raises(
        MissingExtraError, match=r"fusemax.some needs nothing_like_it, which is not installed: pip install 'fusemax\[some\]'"
    ):
        need("some", "numpy", "nothing_like_it")


def test_a_folder_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_folder").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"fusemax\.some needs some_folder"):
        need("some", "some_folder")


@pytest.mark.parametrize(("extra", "package"), [("torch", "torch"), ("transformers", "transformers"), ("onnx", "onnx")])
def test_without_the_package(extra: str, package: str) -> None:
    """As if it were not installed."""
    code = f"""if True:
        import importlib.util
        found = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *more: None if name == {package!r} else found(name, *more)
        import fusemax
        try:
            import fusemax.{extra}
        except ImportError as error:
            print(error)
    """
    if extra == "transformers" and getattr(importlib.util.find_spec("torch"), "origin", None) is None:
        package = "torch"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed == f"fusemax.{extra} needs {package}, which is not installed: pip install 'fusemax[{extra}]'\n"

"""The page of the API lists what users import."""

from __future__ import annotations

import re

from doc_pages import ROOT

import fusemax


def test_every_public_function_and_class_is_listed() -> None:
    page = (ROOT / "docs" / "reference" / "api.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   fusemax\.(\w+)$", page.partition("Packages\n")[0], re.M))
    assert listed == {name for name in fusemax.__all__ if callable(getattr(fusemax, name))}

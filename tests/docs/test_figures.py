"""Drawings and tables of the pages are what their scripts and results give."""

from __future__ import annotations

import json
import re
import runpy

from doc_pages import ROOT

from fusemax.spec import CONFIGS

FIGURES = ROOT / "docs" / "figures"


def test_block_diagram() -> None:
    script = runpy.run_path(str(FIGURES / "block_diagram.py"))
    assert script["block_diagram"](CONFIGS["tiny"]) == (FIGURES / "block_diagram.svg").read_text(encoding="utf-8")
    assert "1024 bits" in script["block_diagram"](CONFIGS["paper"])


def test_counts_of_the_regression() -> None:
    page = (ROOT / "docs" / "explanation" / "verification.md").read_text(encoding="utf-8")
    summary = json.loads((ROOT / "benchmarks" / "results" / "regress.json").read_text(encoding="utf-8"))["summary"]
    rows = re.findall(r"^\| ([\w ]+?) \|.*\| (\d+) \| (\d+) \|$", page, flags=re.M)
    assert {suite: {"problems": int(count), "equal": int(equal)} for suite, count, equal in rows} == summary

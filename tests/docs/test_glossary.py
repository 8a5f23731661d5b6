"""The glossary has what the code has, and nothing that is gone."""

from __future__ import annotations

import re

from doc_pages import ROOT

from fusemax.cascade import CASCADES
from fusemax.compiler.micro import Operation

GLOSSARY = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "sw" / "fusemax"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading, without its header."""
    section = GLOSSARY.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_symbols_of_the_cascade() -> None:
    listed = set(re.findall(r"[A-Z]\w*", re.sub(r"\[.*?\]", "", " ".join(row[0] for row in rows("Symbols of the cascade")))))
    assert listed == {declared.tensor for declared in CASCADES["attention_1pass"].declaration}


def test_operations() -> None:
    assert [row[0] for row in rows("Operations of the array")] == [operation.name for operation in Operation]


def test_nouns_of_the_host() -> None:
    names = 0
    for name, _, path in rows("The host"):
        for noun in re.findall(r"`(\w+)`", name):
            names += 1
            files = (PACKAGE / path).rglob("*.py") if path.endswith("/") else [PACKAGE / path]
            assert any(re.search(rf"^class {noun}\b", file.read_text(encoding="utf-8"), re.M) for file in files), (
                f"{noun} in {path}"
            )
    assert names > 30


def test_nouns_of_the_machine_are_in_order() -> None:
    words = [row[0].partition(",")[0].lower() for row in rows("The machine")]
    assert words == sorted(words)

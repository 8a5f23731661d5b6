"""Form of the pages: length of lines, parts of a decision."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, WRITTEN, name

LONGEST = 100
DECISION = re.compile(
    r"# \d+\. .+\n\n\* Date: \d{4}-\d\d-\d\d\n\* Status: (proposed|accepted|replaced by \d+)\n\n"
    r"## Context\n.+## Decision\n.+## Alternatives\n.+## Cost\n.+",
    re.DOTALL,
)


def long_lines(text: str) -> list[str]:
    """Return the lines of text that are too long; tables, pictures and blocks are not text, and a link cannot be cut."""
    without_blocks = re.sub(r"^```.*?^```", "", text, flags=re.M | re.DOTALL)
    lines = [line for line in without_blocks.splitlines() if not line.startswith(("|", "!["))]
    return [line for line in lines if len(line) > LONGEST and not re.search(r"\]\([^)]{40,}\)|^    ", line)]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_lines_are_short(page: Path) -> None:
    assert not long_lines(page.read_text(encoding="utf-8"))


def test_long_lines_are_found() -> None:
    long = "word " * 21
    assert long_lines(f"{long}\n| {long} |\n```\n{long}\n```\nshort\n") == [long]


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "decisions").glob("0*.md")), ids=name)
def test_a_decision_has_all_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert DECISION.fullmatch(text)
    assert text.startswith(f"# {int(page.name[:4])}. ")


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_one_title(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.DOTALL)
    assert len(re.findall(r"^# ", text, flags=re.M)) == 1

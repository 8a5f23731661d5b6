"""Tables of docs/measurements/paper.md are those of the model."""

import re
from pathlib import Path

import pytest

from fusemax.evaluation.paper import mean, paper_tables, ratios

PAGE = (Path(__file__).parents[4] / "docs" / "measurements" / "paper.md").read_text(encoding="utf-8")


def rows_under(title: str) -> list[list[str]]:
    """Cells of the table under a title in bold, header first."""
    lines = PAGE.partition(f"**{title}**\n\n")[2].partition("\n\n")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if not set("".join(row)) <= set(" -:")]


TITLES = re.findall(r"^\*\*(.+)\*\*$", PAGE, re.MULTILINE)


def test_the_page_shows_the_paper_s_figures():
    for figure in ("6a", "6b", "7", "8", "9", "10", "11"):
        assert any(f"(figure {figure})" in title for title in TITLES)


@pytest.mark.parametrize("title", TITLES)
def test_table(title):
    table = next(table for table in paper_tables() if table.title == title)
    header, *rows = rows_under(title)
    assert header == [name.strip() for name in table.header]
    computed = [[cell.strip() for cell in row] for row in table.rows]
    assert rows
    for row in rows:
        assert row in computed, row


def test_numbers_in_the_text():
    without = {
        name: mean(ratios("energy without wraps", *name.split())) for name in ("binding flat", "binding unfused", "ours flat")
    }
    assert f"would be {without['binding flat']:.3f} and {without['binding unfused']:.3f}" in PAGE
    assert f"ours is {without['ours flat']:.3f} of FLAT's energy" in PAGE

"""docs/measurements/explore.md: its tables are those of the area table and of the cycle model."""

from __future__ import annotations

import pytest

from fusemax.evaluation.explore import AreaTable, evaluate, front


@pytest.fixture
def explore(script):
    return script("explore")


@pytest.fixture
def page(explore) -> str:
    return (explore.DOCS / "explore.md").read_text(encoding="utf-8")


def test_area_tables(explore, page: str) -> None:
    areas = AreaTable.read()
    for table in (explore.parts_table(areas), explore.contexts_table(areas), explore.checks_table(areas)):
        assert table in page


def test_front(explore, page: str) -> None:
    """Every point on it has the cycles and the area that the page shows; they are a front."""
    points = {(p.config.rows, p.config.columns, p.config.query_tiles, p.config.bus_bits): p for p in explore.default_points()}
    lines = [line for line in page.partition("query tiles | bus |")[2].partition("\n\n")[0].splitlines() if "---" not in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    assert len(rows) > 20
    costs = []
    for row in rows:
        point = points[tuple(int(cell) for cell in row[:4])]
        area = round(AreaTable.read().area(point.config).lut_equivalents)
        assert row[5] == f"{evaluate(point)['cycles']}"
        assert row[7] == f"{area}"
        costs.append((int(row[5]), area))
    assert all(front(costs))

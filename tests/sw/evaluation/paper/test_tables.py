"""Tables are complete and rectangular; pictures are written."""

import pytest

from fusemax.evaluation.paper import DESIGNS, PUBLISHED, draw, paper_tables


def test_tables():
    tables = paper_tables()
    assert len({table.title for table in tables}) == len(tables)
    for table in tables:
        assert table.rows
        assert all(len(row) == len(table.header) for row in table.rows), table.title
    by_length = [table for table in tables if table.header[:2] == ("model", "length")]
    assert len(by_length) == 9
    assert all(len(table.rows) == 24 and len(table.header) == 2 + len(DESIGNS) for table in by_length)


def test_published_table():
    table = paper_tables()[0]
    assert len(table.rows) == len(PUBLISHED)
    assert all(row[3] == "reproduced" for row in table.rows)


def test_einsums_add_up():
    table = next(table for table in paper_tables() if "by Einsum" in table.title)
    for row in table.rows:
        *parts, total = map(float, row[2:])
        assert sum(parts) == pytest.approx(total, abs=3e-4)


def test_draw(tmp_path):
    pytest.importorskip("matplotlib")
    paths = draw(tmp_path)
    assert [path.name for path in paths] == ["speedup.png", "energy.png", "utilisation.png", "einsums.png", "lengths.png"]
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 20_000

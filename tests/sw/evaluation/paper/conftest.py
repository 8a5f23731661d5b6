"""Rows of the paper's public artifact, where they lie beside the clone; they are not part of it."""

import csv
from pathlib import Path

import pytest

ROWS = Path(__file__).parents[4].parent / "shared" / "data" / "paper"


@pytest.fixture
def artifact_rows():
    """Rows of one of the artifact's tables: a function of its name."""

    def rows(name: str) -> list[dict[str, str]]:
        file = ROWS / f"{name}.csv"
        if not file.exists():
            pytest.skip(f"rows of the paper's artifact are not there: {file.name} beside the clone in shared/data/paper")
        with file.open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    return rows

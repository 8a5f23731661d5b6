"""docs/reference/cascades.md: its files are written, its Python runs, its commands print what it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fusemax.cascade import CASCADES
from fusemax.cascade.builtins import MAPS, REDUCTIONS
from fusemax.cascade.passes import count_passes
from fusemax.cli import main

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "cascades.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the page's files, and in it."""
    for text in blocks("yaml"):
        name = re.match(r"# (\w+\.yaml)", text)
        assert name is not None
        (tmp_path / name[1]).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("directory")
def test_python() -> None:
    assert len(blocks("python")) == 3
    exec("\n".join(blocks("python")), {})


@pytest.mark.usefixtures("directory")
def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    for text in blocks("console"):
        command, _, expected = text.partition("\n")
        main(command.removeprefix("$ fusemax ").split())
        printed = capsys.readouterr()
        assert (printed.out + printed.err).split() == expected.split()


def test_all_functions_are_listed() -> None:
    listed = PAGE[PAGE.index("**Expressions**") : PAGE.index("**Functions of your own**")]
    assert set(MAPS) | set(REDUCTIONS) <= set(re.findall(r"[a-z][a-z0-9]*", listed))


def test_table_of_counts() -> None:
    seen = 0
    for line in PAGE[PAGE.index("Some counts") :].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] not in CASCADES:
            continue
        counts = re.findall(r"([A-Z][A-Z0-9]*) (\d)", cells[1])
        deferred = re.findall(r"\d", cells[2])
        assert counts
        seen += 1
        for position, (rank, passes) in enumerate(counts):
            found = count_passes(CASCADES[cells[0]], rank)
            assert found.passes == int(passes), line
            assert found.passes_deferred_division == (int(deferred[position]) if deferred else found.passes), line
    assert seen == 11

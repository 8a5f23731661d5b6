"""The file of results: saved with every row, found again while nothing has changed, and never half written."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fusemax.evaluation.bench import Case, Results
from fusemax.evaluation.bench.results import key_of

CASE = Case(heads=1, queries=2, keys=3, e=4, f=5)
OTHER = Case(heads=1, queries=2, keys=3, e=4, f=6)


def test_a_row_is_saved_when_it_is_put(tmp_path: Path) -> None:
    path = tmp_path / "new" / "bench.json"
    results = Results(path)
    assert results.get(CASE, "digest") is None
    assert not path.exists()
    row = results.put(CASE, "digest", {"cycles": 7})
    assert row == {"key": key_of(CASE, "digest"), "cycles": 7}
    assert Results(path).get(CASE, "digest") == row
    results.put(OTHER, "digest", {"cycles": 8})
    assert json.loads(path.read_text()) == {"rows": [row, {"key": key_of(OTHER, "digest"), "cycles": 8}]}
    assert list(path.parent.iterdir()) == [path]


def test_a_row_is_one_line(tmp_path: Path) -> None:
    """So that a difference between two versions of the file is one of rows."""
    results = Results(tmp_path / "bench.json")
    results.put(CASE, "digest", {"cycles": 7})
    results.put(OTHER, "digest", {"cycles": 8})
    assert len(results.path.read_text().splitlines()) == 4


def test_keys_depend_on_everything_but_the_target() -> None:
    changed = {
        "config": "small",
        "heads": 2,
        "queries": 3,
        "keys": 4,
        "e": 5,
        "f": 6,
        "latency_cycles": 61,
        "beat_interval_cycles": 2,
        "modelled": True,
    }
    keys = {key_of(CASE, "digest"), key_of(CASE, "another digest")}
    keys |= {key_of(replace(CASE, **{name: value}), "digest") for name, value in changed.items()}
    assert len(keys) == 2 + len(changed)
    assert key_of(replace(CASE, target=0.9), "digest") == key_of(CASE, "digest")


def test_a_row_of_another_machine_is_not_found(tmp_path: Path) -> None:
    results = Results(tmp_path / "bench.json")
    old = results.put(CASE, "old", {"cycles": 7})
    assert results.get(CASE, "new") is None
    new = results.put(CASE, "new", {"cycles": 6})
    assert (results.get(CASE, "old"), results.get(CASE, "new")) == (old, new)
    results.keep([new["key"]])
    assert Results(results.path).rows == {new["key"]: new}


def test_rows_are_kept_in_the_order_asked_for(tmp_path: Path) -> None:
    results = Results(tmp_path / "bench.json")
    first, second = (results.put(case, "digest", {}) for case in (CASE, OTHER))
    results.keep([second["key"], first["key"]])
    assert list(Results(results.path).rows) == [second["key"], first["key"]]
    results.keep([])
    assert Results(results.path).rows == {}


def test_an_interrupted_write_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = Results(tmp_path / "bench.json")
    row = results.put(CASE, "digest", {"cycles": 7})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        results.put(OTHER, "digest", {"cycles": 8})
    assert Results(results.path).rows == {row["key"]: row}


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rows": 1}', '{"rows": [{"cycles": 1}]}', '{"rows": [1]}', "\xff"])
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"bench.json' must hold results of the benchmark"):
        Results(path)
    assert path.read_bytes() == text.encode("latin-1")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^the results must be a file, not the directory '"):
        Results(tmp_path)

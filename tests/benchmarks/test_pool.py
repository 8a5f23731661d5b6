"""The page docs/measurements/pool.md: made of the committed results."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def pool(script):
    return script("pool")


def test_the_page_is_of_the_results(pool) -> None:
    assert pool.PAGE.read_text(encoding="utf-8") == pool.page(json.loads(pool.RESULTS.read_text(encoding="utf-8")))


def test_results_are_of_the_call_that_is_promised(pool) -> None:
    result = json.loads(pool.RESULTS.read_text(encoding="utf-8"))
    assert (pool.HEADS, pool.LENGTH, pool.HEAD_DIM, result["config"]) == (12, 128, 32, "base")
    assert result["equal"]
    assert list(result["runs"]) == ["one simulator", "pool of 1", "pool of 2"]
    # Work, which does not depend on what else the computer does:.
    one, two = (result["runs"][name] for name in ("pool of 1", "pool of 2"))
    assert {run["cycles"] for run in one} == {run["cycles"] for run in two}


@pytest.mark.cosim
def test_it_measures(pool, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(pool, "LENGTH", 8)
    monkeypatch.setattr(pool, "HEADS", 2)
    file = tmp_path / "pool.json"
    assert pool.main(["--repeats", "1", "--config", "tiny", "-o", str(file)]) == 0
    result = json.loads(file.read_text(encoding="utf-8"))
    assert "bits equal" in capsys.readouterr().out
    assert all(run["seconds"] > 0 and run["simulator_cpu"] >= 0 for runs in result["runs"].values() for run in runs)
    assert "on `tiny`" in pool.page(result)

"""Sweeps: the front, saved rows, a cluster that loses a worker."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from fusemax.evaluation.bench import Results
from fusemax.evaluation.explore import AreaTable, Workload, design_points, evaluate, front, model_digest, records, sweep
from fusemax.evaluation.explore import sweep as sweep_function
from fusemax.planning.descriptors import Shape

WORKLOAD = Workload((Shape(heads=2, queries=40, keys=50, e=16),))


@pytest.mark.parametrize("seed", range(20))
def test_front_is_what_no_other_beats(seed: int) -> None:
    """Against the definition; small numbers, so that many are equal."""
    draw = random.Random(seed)
    costs = [(float(draw.randint(1, 9)), float(draw.randint(1, 9))) for _ in range(30)]
    expected = [not any(a <= cost[0] and b <= cost[1] and (a, b) != cost for a, b in costs) for cost in costs]
    assert front(costs) == expected


@pytest.fixture
def in_process(monkeypatch) -> list[str]:
    """The farm without a cluster; names of the tasks that it was given."""
    given: list[str] = []

    def work_through(tasks, done, *, scheduler=None, workers=None) -> None:
        for task in tasks:
            given.append(task.name)
            done(task, task.function(*task.arguments))

    monkeypatch.setitem(sweep_function.__globals__, "work_through", work_through)
    return given


def test_a_sweep_goes_on_where_it_stopped(in_process: list[str], tmp_path: Path) -> None:
    points = design_points(WORKLOAD, (4, 8), (4, 8), (1,), (64,))
    file = tmp_path / "explore.json"
    seen = []

    class Stopped(Exception):
        pass

    def told(count, point, row) -> None:
        seen.append((count, str(point), row["cycles"]))
        if len(seen) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        sweep(points, Results(file), told=told)
    assert [count for count, _, _ in seen] == [1, 2, 3]
    rows = sweep(points, Results(file), told=told)
    assert in_process == ["0", "1", "2", "3"]
    assert [count for count, _, _ in seen] == [1, 2, 3, 4]
    expected = [evaluate(point) for point in points]
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    sweep(points, Results(file))
    assert len(in_process) == 4


def test_rows_of_other_sources_are_made_again(in_process: list[str], tmp_path: Path, monkeypatch) -> None:
    points = design_points(WORKLOAD, (4,), (4,), (1,), (64,))
    results = Results(tmp_path / "explore.json")
    sweep(points, results)
    monkeypatch.setitem(sweep_function.__globals__, "model_digest", lambda: "other")
    with pytest.raises(ValueError, match=f"same fusemax as this process, other, not {model_digest()}"):
        sweep(points, results)
    assert len(in_process) == 2


def test_records(in_process: list[str], tmp_path: Path) -> None:
    points = design_points(WORKLOAD, (4, 8), (4,), (1,), (64, 128))
    table = AreaTable.read()
    found = records(points, sweep(points, Results(tmp_path / "explore.json")), table)
    for point, record in zip(points, found, strict=True):
        row = evaluate(point)
        assert record["cycles"] == row["cycles"]
        assert record["utilisation"] == pytest.approx(2 * 40 * 50 * 32 / (record["rows"] * 4 * row["cycles"]), abs=1e-5)
        assert record["area"] == round(table.area(point.config).lut_equivalents)
    assert [record["front"] for record in found] == front([(r["cycles"], r["area"]) for r in found])
    assert any(record["front"] for record in found)


def test_a_lost_worker_loses_no_point(cluster, tmp_path: Path) -> None:
    points = design_points(WORKLOAD, (2, 3, 4, 5, 6, 8), (3, 4, 8), (1, 2), (64,))
    results = Results(tmp_path / "explore.json")
    counts = []

    def told(count: int, point, row) -> None:
        counts.append(count)
        if count == 5:
            os.kill(cluster.workers[0].pid, signal.SIGKILL)

    rows = sweep(points, results, scheduler=cluster.address, told=told)
    assert cluster.workers[0].wait(10) == -signal.SIGKILL
    assert cluster.workers[1].poll() is None
    assert counts == list(range(1, len(points) + 1))
    assert [row["cycles"] for row in rows] == [evaluate(point)["cycles"] for point in points]
    assert len(Results(results.path).rows) == len(points)

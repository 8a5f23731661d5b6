"""The regression on a cluster of this machine: rows, resuming, what is not equal."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from fusemax.bridge import LinkTimeoutError
from fusemax_sim.problems import CONFIGS

OPTIONS = ("--config", "tiny", "--count", "2")


@pytest.fixture
def regress(script):
    return script("regress")


@pytest.mark.cosim
def test_problems_on_worker_processes(regress, tmp_path) -> None:
    """As the command runs it; the second call has nothing to do."""
    command = [sys.executable, regress.__file__, str(tmp_path / "rows.json"), *OPTIONS, "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "4 passed, 0 failed"
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows["summary"] == {"faults": {"problems": 40, "equal": 40}, "tiny": {"problems": 2, "equal": 2}}
    assert {row["machine"] for row in rows["rows"].values()} == {regress.machine("tiny")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "4 passed, 0 failed\n"


@pytest.fixture
def in_process(regress, monkeypatch) -> list[str]:
    """Without a cluster, and problems that are not run; names of the tasks."""
    given = []

    def work_through(tasks, done, *, scheduler, workers) -> None:
        for task in tasks:
            given.append(task.name)
            done(task, {"suite": "tiny", "machine": regress.machine("tiny"), "equal": task.name != "tiny 1001"})

    monkeypatch.setattr(regress, "work_through", work_through)
    return given


def test_what_is_not_equal_is_named_and_done_again(regress, in_process, tmp_path, capsys) -> None:
    arguments = [str(tmp_path / "rows.json"), *OPTIONS]
    assert regress.main(arguments) == 1
    assert capsys.readouterr().out.splitlines()[-2:] == ["3 passed, 1 failed", "tiny 1001"]
    assert regress.main(arguments) == 1
    assert in_process == ["tiny 1000", "tiny 1001", "faults tiny 1000", "faults tiny 1001", "tiny 1001"]


def test_workers_of_other_sources_are_an_error(regress, in_process, tmp_path, monkeypatch) -> None:
    digests = iter(["ours", "theirs"])
    monkeypatch.setattr(regress, "machine", lambda config: next(digests))
    with pytest.raises(ValueError, match="tiny 1000: workers must have the same sources, ours, not theirs"):
        regress.main([str(tmp_path / "rows.json"), *OPTIONS])
    assert not (tmp_path / "rows.json").exists()


def test_the_whole_regression(regress) -> None:
    tasks = regress.wanted((), None)
    heads = 24
    problems = sum(regress.COUNTS.values()) + sum(regress.SESSIONS.values())
    assert len(tasks) == problems + 2 * heads + len(regress.BRIDGE_SEEDS) + 1 + len(regress.NOISE_SEEDS)
    assert len(regress.BRIDGE_SEEDS) * regress.BRIDGE_FRAMES >= 10_000
    assert len({task.name for _, task in tasks}) == len(tasks)
    assert {config for config, _ in tasks} <= set(CONFIGS)


@pytest.mark.cosim
def test_bridge_and_line(regress, monkeypatch) -> None:
    monkeypatch.setattr(regress, "BRIDGE_FRAMES", 40)
    row = regress.bridge_soak(3)
    assert row["equal"] and row["suite"] == "bridge" and row["frames"] == 40
    row = regress.bridge_share()
    assert row["equal"] and row["suite"] == "line" and 0.95 < min(row["read"], row["write"]) < 1
    monkeypatch.setattr(regress, "LEAST_SHARE", 0.999)
    assert not regress.bridge_share()["equal"]


def test_a_bridge_that_hangs_is_not_equal(regress, monkeypatch) -> None:
    def soak(frames: int, *, seed: int) -> None:
        raise LinkTimeoutError("the bridge must answer")

    monkeypatch.setattr(regress, "soak", soak)
    row = regress.bridge_soak(3)
    assert not row["equal"]
    assert (row["repeat"], row["differences"]) == ("fusemax_sim.bridge.soak(2500, seed=3)", "the bridge must answer")

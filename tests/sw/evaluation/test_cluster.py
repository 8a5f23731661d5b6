"""Tasks on a Dask cluster: each is done once, a lost worker loses nothing."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fusemax.evaluation.cluster import Task, work_through

#: Long enough to be killed in its midst on a busy machine.
TASK_SECONDS = 0.4


def test_a_lost_worker_loses_nothing(cluster, tmp_path: Path) -> None:
    """One of two workers is killed in the midst of a task: the other one does that again, and all that is left."""
    started = tmp_path / "started"
    started.mkdir()

    def square(number: int, directory: str) -> tuple[int, int]:
        (Path(directory) / f"{number} {os.getpid()}").touch()
        time.sleep(TASK_SECONDS)
        return number**2, os.getpid()

    results: dict[str, tuple[int, int]] = {}
    interrupted = []
    victim = cluster.workers[0].pid

    def just_begun() -> list[str]:
        """The task that the worker has begun a moment ago."""
        now = time.time()
        files = [path for path in started.iterdir() if now - path.stat().st_mtime < TASK_SECONDS / 4]
        return [name for name, pid in (path.name.split() for path in files) if int(pid) == victim]

    def done(task: Task, result: tuple[int, int]) -> None:
        assert task.name not in results
        results[task.name] = result
        deadline = time.monotonic() + 10
        while len(results) == 4 and not interrupted and time.monotonic() < deadline:
            interrupted.extend(just_begun())
            if interrupted:
                os.kill(victim, signal.SIGKILL)
            time.sleep(0.01)

    tasks = [Task(f"{number}", square, (number, str(started))) for number in range(14)]
    work_through(tasks, done, scheduler=cluster.address)
    assert {name: value for name, (value, _) in results.items()} == {f"{number}": number**2 for number in range(14)}
    (name,) = interrupted
    survivor = cluster.workers[1].pid
    assert results[name][1] == survivor
    # What it had done before was not done again, but for a result that was on its way.
    assert {pid for _, pid in results.values()} == {victim, survivor}
    assert 1 <= len(list(started.iterdir())) - len(tasks) <= 2
    assert cluster.workers[0].wait(10) == -signal.SIGKILL


def test_a_local_cluster(tmp_path: Path) -> None:
    """Several processes, none of them this one; what a task raises is raised here, and what was done is kept."""

    def half(number: int) -> tuple[int, int]:
        if number % 2:
            raise ZeroDivisionError(f"{number} is odd")
        return number // 2, os.getpid()

    results = {}
    work_through([Task(f"{n}", half, (n,)) for n in range(0, 20, 2)], lambda t, r: results.update({t.name: r}), workers=2)
    assert {name: value for name, (value, _) in results.items()} == {f"{n}": n // 2 for n in range(0, 20, 2)}
    assert os.getpid() not in {pid for _, pid in results.values()}
    with pytest.raises(ZeroDivisionError, match="7 is odd"):
        work_through([Task("7", half, (7,))], lambda task, result: None, workers=1)


def test_nothing_to_do_needs_no_cluster() -> None:
    work_through([], print, scheduler="tcp://127.0.0.1:1")


def test_a_scheduler_that_does_not_answer(monkeypatch) -> None:
    monkeypatch.setattr("fusemax.evaluation.cluster.CONNECT_SECONDS", 0.2)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        work_through([Task("a", print)], print, scheduler="tcp://127.0.0.1:1")


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ("ab", {"workers": 0}, "workers must be at least 1, not 0"),
        ("ab", {"workers": 1, "scheduler": "tcp://a:1"}, "workers must be given for a local cluster only"),
        ("aba", {}, "the name of a task must be its own, not 'a' again"),
    ],
)
def test_wrong_arguments(tasks: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        work_through([Task(name, print) for name in tasks], print, **options)

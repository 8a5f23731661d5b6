"""A Dask cluster of processes that a test can kill."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["Cluster", "cluster"]


class Cluster:
    """A scheduler and two workers, each a process of its own that nothing starts again."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "scheduler.json"
        self.log = (directory / "log").open("w")
        self.scheduler = self.start("dask_scheduler", "--port", "0", "--no-dashboard", "--no-show")
        self.workers = [self.start("dask_worker", "--nthreads", "1", "--no-nanny", "--no-dashboard") for _ in range(2)]

    def start(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.{program}", *options, "--host", "127.0.0.1"]
        command += ["--scheduler-file", str(self.file)]
        return subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd=self.file.parent)

    @property
    def address(self) -> str:
        from distributed import Client

        deadline = time.monotonic() + 60
        while not self.file.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        with Client(scheduler_file=str(self.file)) as client:
            client.wait_for_workers(2, timeout=60)
            return client.scheduler.address

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self.log.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path)
    yield found
    found.close()

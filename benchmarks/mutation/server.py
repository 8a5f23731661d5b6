"""Runs tests on changed code: a process that has imported what the tests import, and forks for every change.

Works in a copy of the code, where the changed file is written: so what the tests start in other processes is changed too.
Reads a line of JSON for each run from standard input, and writes one to standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
#: What is copied: the code, its tests, and what both read.
PARTS = ("sw", "hw", "sim", "tests", "benchmarks", "examples", "docs", "pyproject.toml", "README.md", "Makefile")
CODE = ("sw", "hw", "sim")
#: What the code imports besides itself.
PRELOAD = (
    *("numpy", "ml_dtypes", "pytest", "pytest_timeout", "hypothesis", "yaml"),
    *(
        "amaranth.sim",
        "amaranth.sim.pysim",
        "amaranth.lib.fifo",
        "amaranth.lib.memory",
        "amaranth.back.rtlil",
        "amaranth.back.verilog",
    ),
)
#: Bytes of memory that a run may have.
MEMORY = 6 << 30
#: A run that only waits is given up after so many times its seconds of processor time.
WAIT = 4
DESELECT = "not tools and not package and not cosim"


class Server:
    """The process, seen from who gives it work."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fusemax-mutation-"))
        for part in PARTS:
            source, target = ROOT / part, self.directory / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        path = os.pathsep.join(str(self.directory / part) for part in CODE)
        environment = os.environ | {
            "PYTHONPATH": path,
            "PYTHONDONTWRITEBYTECODE": "1",
            "FUSEMAX_CACHE": str(self.directory / "cache"),
            "HYPOTHESIS_STORAGE_DIRECTORY": str(self.directory / "hypothesis"),
        }
        # Files that are not changed need not be compiled in every run.
        subprocess.run(
            [sys.executable, "-m", "compileall", "-q", *(str(self.directory / part) for part in (*CODE, "tests"))], check=True
        )
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, path: str, text: str | None, tests: Sequence[str], seconds: float, marks: str = DESELECT) -> dict[str, Any]:
        """Run tests while the file at ``path`` has another text; stops at the first failure.

        Returns
        -------
        ``status`` (``passed``, ``failed``, or ``late``: not done after ``seconds`` of processor time), ``seconds``, and ``by``,
        the test that failed.

        Raises
        ------
        RuntimeError
            If the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        file, original = self.directory / path, (ROOT / path).read_text(encoding="utf-8")
        if text is not None:
            file.write_text(text, encoding="utf-8")
        try:
            print(json.dumps({"tests": list(tests), "seconds": seconds, "marks": marks}), file=self._process.stdin, flush=True)
            answer = self._process.stdout.readline()
            if not answer:
                raise RuntimeError(f"the process that runs tests has ended, with {self._process.wait()}; call again to go on")
            return json.loads(answer)
        finally:
            if text is not None:
                file.write_text(original, encoding="utf-8")

    def close(self) -> None:
        """End the process, which removes the copy; it also does if this one ends without a word."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def serve() -> None:
    """Fork for every line, and wait for the fork."""
    for name in PRELOAD:
        with contextlib.suppress(ImportError):
            __import__(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        order = json.loads(line)
        with tempfile.TemporaryDirectory(dir=".") as directory:
            output = Path(directory, "output")
            begin = time.monotonic()
            if not (child := os.fork()):
                _test(order["tests"], order["marks"], order["seconds"], output)
            status = _wait(child, begin + WAIT * order["seconds"])
            text = output.read_text(errors="replace") if output.exists() else ""
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", text, flags=re.MULTILINE)
        answer = {
            "status": status,
            "seconds": round(time.monotonic() - begin, 2),
            "by": found[1] if found else text[-300:] if status == "failed" else "",
        }
        print(json.dumps(answer), file=answers, flush=True)
    shutil.rmtree(Path.cwd(), ignore_errors=True)


def _test(tests: list[str], marks: str, seconds: float, output: Path) -> None:
    """Run tests in a session of their own; does not return."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))
    sink = os.open(output, os.O_WRONLY | os.O_CREAT)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(sink, 1)
    os.dup2(sink, 2)
    status = 2
    try:
        import pytest

        # Plugins were imported before pytest could rewrite their asserts.
        early = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *early, "-m", marks, *tests])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(status))


def _wait(child: int, end: float) -> str:
    """What became of a fork; whatever it has started ends with it."""
    status = None
    while status is None and time.monotonic() < end:
        done, code = os.waitpid(child, os.WNOHANG)
        status = os.waitstatus_to_exitcode(code) if done else None
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    if status in (None, -signal.SIGXCPU, -signal.SIGKILL):
        return "late"
    # 5: no test is left, which is none that has failed.
    return "passed" if status in (0, 5) else "failed"


if __name__ == "__main__":
    serve()

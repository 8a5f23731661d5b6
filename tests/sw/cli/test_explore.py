"""``fusemax explore``: what it prints, saves and draws, on a cluster of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fusemax.cli import main
from fusemax.evaluation.explore import AREA_TABLE

SPACE = ("--shape", "2x40x50x16x16", "--rows", "4,8", "--columns", "4", "--query-tiles", "1,2", "--bus", "64,128")
FIELDS = "rows columns query_tiles bus_bits contexts cycles utilisation bytes_read lut ff dsp ram_18k ram_16x4 area front"


def explore(results: Path, *options: str) -> int:
    return main(["explore", *SPACE, "--results", str(results), *options])


def test_explore(tmp_path: Path, capsys, monkeypatch) -> None:
    results = tmp_path / "new" / "explore.json"
    assert explore(results, "--workers", "2", "--json") == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert [list(record) for record in found] == [FIELDS.split()] * 8
    assert sorted(line.split(" of ")[0] for line in captured.err.splitlines()) == [f"{n}" for n in range(1, 9)]
    assert len(json.loads(results.read_text())["rows"]) == 8

    # Again nothing is computed, so that no cluster is needed.
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert explore(results, "-o", str(tmp_path / "pictures")) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    first, header, _, *lines, picture = captured.out.splitlines()
    on_front = sorted((record for record in found if record["front"]), key=lambda record: record["area"])
    assert first == f"{len(on_front)} of 8 points are on the front"
    assert header.split()[:5] == ["rows", "columns", "query", "tiles", "bus"]
    assert [line.split()[5] for line in lines] == [f"{record['cycles']}" for record in on_front]
    assert picture == str(tmp_path / "pictures" / "explore.png")
    assert Path(picture).read_bytes().startswith(b"\x89PNG")


def test_absent_dask_is_named(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert explore(tmp_path / "explore.json") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: fusemax explore needs distributed, which is not installed: pip install 'fusemax[explore]'\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bus", "1024"), "bus_bits must be one of 32, 64, 128, 256, not 1024"),
        (("--rows", "1"), "rows must be from 2 to 256, not 1"),
        (("--shape", "2x2"), "a shape must be heads, queries, keys, E and F"),
        (("--area", "no-such-file"), "No such file"),
    ],
)
def test_wrong_values_are_found_before_anything_is_computed(tmp_path: Path, capsys, options, message: str) -> None:
    assert explore(tmp_path / "explore.json", *options) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "explore.json").exists()


def test_wrong_usage(capsys) -> None:
    for options in (("--rows", "4,x"), ("--workers", "1", "--scheduler", "tcp://a:1")):
        with pytest.raises(SystemExit) as caught:
            main(["explore", *options])
        assert caught.value.code == 2
    assert "must be numbers as in 4,8,16, not '4,x'" in capsys.readouterr().err


def test_other_areas(tmp_path: Path, capsys) -> None:
    """Ten thousand LUTs more of what there is once."""
    table = json.loads(AREA_TABLE.read_text())
    for machine in table["machines"]:
        machine["parts"]["once"]["lut"] += 10_000
    (tmp_path / "area.json").write_text(json.dumps(table))
    found = []
    for options in ((), ("--area", str(tmp_path / "area.json"))):
        assert explore(tmp_path / "explore.json", "--workers", "1", "--json", *options) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert [record["lut"] + 10_000 for record in found[0]] == [record["lut"] for record in found[1]]

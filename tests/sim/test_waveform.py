"""What is said about a waveform: endings, depth, cycles, and files that cannot be written."""

from __future__ import annotations

from pathlib import Path

import pytest

import fusemax
from fusemax_sim.waveform import DEFAULT_DEPTH, Waveform


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, r"^trace must be a path, not 3$"),
        (("wave.txt",), ValueError, r"^trace must end in \.fst or \.vcd, not 'wave\.txt'$"),
        (("wave",), ValueError, r"^trace must end in \.fst or \.vcd, not 'wave'$"),
        (("wave.fst", 0), ValueError, r"^trace_depth must be from 1 to 99, not 0$"),
        (("wave.fst", True), TypeError, r"^trace_depth must be an integer, not True$"),
        (("wave.fst", 1.5), TypeError, r"^trace_depth must be an integer, not 1\.5$"),
        (("wave.fst", 5, (3,)), TypeError, r"^trace_cycles must be two integers \(first, last\), not \(3,\)$"),
        (("wave.fst", 5, (3, 4.0)), TypeError, r"^trace_cycles must be two integers \(first, last\), not \(3, 4\.0\)$"),
        (("wave.fst", 5, (4, 3)), ValueError, r"^trace_cycles must be .* with 0 <= first <= last, not \(4, 3\)$"),
        (
            ("wave.fst", 5, (-1, 3)),
            ValueError,
            r"^trace_cycles must be \(first, last\) with 0 <= first <= last, not \(-1, 3\)$",
        ),
    ],
)
def test_wrong_values(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Waveform(*arguments)


def test_what_the_simulator_is_told(tmp_path: Path) -> None:
    path = tmp_path / "wave.fst"
    assert Waveform(path).plusargs() == [f"+waveform={path}", f"+waveform_depth={DEFAULT_DEPTH}"]
    assert Waveform(path, 2, (3, 9)).plusargs()[1:] == ["+waveform_depth=2", "+waveform_first=3", "+waveform_last=9"]
    assert Waveform(path).format == "fst"
    assert Waveform(path.with_suffix(".vcd")).format == "vcd"


def test_a_file_that_can_be_written_is_left_as_it_is(tmp_path: Path) -> None:
    Waveform(tmp_path / "new.fst").check_writable()
    assert not list(tmp_path.iterdir())
    old = tmp_path / "old.fst"
    old.write_text("old")
    Waveform(old).check_writable()
    assert old.read_text() == "old"


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("absent/wave.fst", FileNotFoundError, "No such file or directory"),
        ("file/wave.fst", NotADirectoryError, "Not a directory"),
        ("folder.fst", IsADirectoryError, "Is a directory"),
        # Nobody may make files there, root included.
        ("/proc/wave.vcd", OSError, ""),
    ],
)
def test_a_file_that_cannot_be_written(
    path: str, error: type[OSError], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is built."""
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.fst").mkdir()
    monkeypatch.setattr("fusemax_sim.rtl_transport.build", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(error, match=f"trace cannot be written: {reason}") as caught:
        fusemax.open("rtl", "tiny", trace=tmp_path / path)
    assert str(caught.value.filename) == str(tmp_path / path)


@pytest.mark.parametrize("options", [{"trace_depth": 3}, {"trace_cycles": (0, 9)}])
def test_depth_and_cycles_belong_to_a_trace(options: dict) -> None:
    with pytest.raises(ValueError, match=r"^trace must be a path if trace_depth or trace_cycles is given$"):
        fusemax.open("rtl", "tiny", **options)

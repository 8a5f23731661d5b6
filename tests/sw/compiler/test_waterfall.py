"""The waterfall picture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import fusemax
from fusemax.compiler import waterfall
from fusemax.compiler.micro import Operation
from fusemax.errors import MissingExtraError


@pytest.mark.parametrize(("config", "head_dim"), [("small", 64), ("tiny", 1)])
def test_picture_is_written(config: str, head_dim: int, tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    fusemax.compile(head_dim=head_dim, config=config).schedule.plot(tmp_path / "waterfall.png")
    height, width, _ = image.imread(tmp_path / "waterfall.png").shape
    assert width > 1200
    assert height > 500


def test_more_tiles_make_a_higher_picture(tmp_path: Path) -> None:
    image = pytest.importorskip("matplotlib.image")
    schedule = fusemax.compile(head_dim=4).schedule
    heights = []
    for tiles in (2, 9):
        waterfall.plot(schedule, tmp_path / f"{tiles}.png", tiles)
        heights.append(image.imread(tmp_path / f"{tiles}.png").shape[0])
    assert heights[1] > heights[0] + 200


def test_max_is_no_maximum_where_none_is_running() -> None:
    used = {Operation.QK, Operation.MAX}
    assert waterfall.meanings(used, running=True) == {Operation.QK: "QK: scores", Operation.MAX: "MAX: maximum, reference"}
    assert waterfall.meanings(used, running=False)[Operation.MAX] == "MAX: moves scores"


def test_tiles_must_be_positive(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="tiles must be an integer of at least 1, not 0"):
        fusemax.compile(head_dim=4).schedule.plot(tmp_path / "waterfall.png", tiles=0)


def test_missing_matplotlib_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"plotting needs matplotlib: pip install 'fusemax\[cli\]'"):
        fusemax.compile(head_dim=4).schedule.plot(tmp_path / "waterfall.png")

"""Pictures in docs/ are what the code draws: the same pixels, whatever compressed them. The texts have tests of their own."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip("matplotlib")
image = pytest.importorskip("PIL.Image")

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PINNED = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))

Script = Callable[[str], ModuleType]


def draw_schedule(script: Script, directory: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "schedule.py"), str(directory / "figures" / "schedule.png")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)


def draw_heads(script: Script, directory: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "heads.py"), str(directory / "figures" / "heads.png")]
    subprocess.run(command, check=True, capture_output=True, timeout=200)


def draw_cycles(script: Script, directory: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "lengths.py"), str(directory / "figures" / "lengths.png")]
    subprocess.run(command, check=True, capture_output=True, timeout=200)


def draw_paper(script: Script, directory: Path) -> None:
    from fusemax.evaluation.paper import draw

    (directory / "measurements" / "paper").mkdir()
    draw(directory / "measurements" / "paper")


def draw_ablation(script: Script, directory: Path) -> None:
    script("ablation").plot(directory / "measurements" / "ablation.png")


def draw_report(script: Script, directory: Path) -> None:
    report, pictures = script("report"), script("pictures")
    rows = json.loads(report.RESULTS.read_text(encoding="utf-8"))["rows"]
    groups = {group: report.rows_of(group, rows) for group in report.GROUPS}
    pictures.plot_roofline([row for _, row in groups["roofline"]], directory / "measurements" / "roofline.png")
    pictures.plot_lengths(report.square_heads(groups), directory / "measurements" / "lengths.png")


def draw_residency(script: Script, directory: Path) -> None:
    residency = script("residency")
    rows = json.loads(residency.RESULTS.read_text(encoding="utf-8"))
    residency.plot([(run, rows[run.name]) for run in residency.all_runs()], directory / "measurements" / "residency.png")


#: Files by what draws them. The others need a simulation or a sweep.
PICTURES: dict[Callable[[Script, Path], None], tuple[str, ...]] = {
    draw_schedule: ("figures/schedule.png",),
    draw_heads: ("figures/heads.png",),
    draw_cycles: ("figures/lengths.png",),
    draw_paper: tuple(f"measurements/paper/{name}.png" for name in ("speedup", "energy", "utilisation", "einsums", "lengths")),
    draw_ablation: ("measurements/ablation.png",),
    draw_report: ("measurements/roofline.png", "measurements/lengths.png"),
    draw_residency: ("measurements/residency.png",),
}
#: Need more than results that are committed.
EXPENSIVE = {"measurements/explore.png", "measurements/waterfall.png"}


def committed(name: str) -> Path:
    """Where a picture is in the documentation."""
    return DOCS / name


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with image.open(path) as opened:
        assert set(opened.info) <= {"dpi"}, "neither software nor date"
        return np.asarray(opened.convert("RGBA"))


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_pictures(draw: Callable[[Script, Path], None], script: Script, tmp_path: Path) -> None:
    installed = importlib.metadata.version("matplotlib")
    if installed != PINNED["matplotlib"]:
        pytest.skip(f"the pictures are of matplotlib {PINNED['matplotlib']} (constraints.txt), not {installed}")
    for folder in ("figures", "measurements"):
        (tmp_path / folder).mkdir()
    draw(script, tmp_path)
    for name in PICTURES[draw]:
        found, expected = pixels(tmp_path / name), pixels(committed(name))
        assert found.shape == expected.shape, f"{name} must be drawn again (make docs, or the script that its page names)"
        different = int((found != expected).any(axis=-1).sum())
        assert different == 0, f"{name}: {different} pixels differ; draw it again (make docs, or the script of its page)"


def test_no_point_stands_above_its_roof(script: Script) -> None:
    """Nor far below it, where the memory is the limit."""
    report, pictures = script("report"), script("pictures")
    rows = json.loads(report.RESULTS.read_text(encoding="utf-8"))["rows"]
    shares = []
    for case, row in report.rows_of("roofline", rows):
        allowed = pictures.roof(case.machine, pictures.intensity_of(row), case.bytes_per_cycle, case.limit)
        assert row["utilisation"] <= allowed, case.shape
        if allowed < 0.9 * case.limit:
            shares.append(row["utilisation"] / allowed)
    assert len(shares) > 5 and min(shares) > 0.95


def test_every_picture_is_known() -> None:
    known = {name for names in PICTURES.values() for name in names} | EXPENSIVE
    assert set(DOCS.rglob("*.png")) == {committed(name) for name in known}

"""The picture is drawn, with the front in it."""

from pathlib import Path

from matplotlib.image import imread

from fusemax.evaluation.explore.picture import draw


def record(area: int, cycles: int, bus_bits: int, front: bool) -> dict:
    return {"rows": 4, "columns": 4, "query_tiles": 2, "bus_bits": bus_bits, "area": area, "cycles": cycles, "front": front}


def test_picture(tmp_path: Path) -> None:
    records = [record(60_000, 400_000, 64, True), record(90_000, 100_000, 128, True), record(95_000, 120_000, 256, False)]
    draw(records, "a workload", tmp_path / "explore.png")
    pixels = imread(tmp_path / "explore.png")
    assert pixels.shape[1] > pixels.shape[0] > 300
    # The filled points of both buses on the front, in their colours.
    for red, green, blue in ((0x44, 0x77, 0xAA), (0xEE, 0x66, 0x77)):
        same = abs(pixels[..., :3] * 255 - (red, green, blue)).max(axis=-1) < 2
        assert same.sum() > 20

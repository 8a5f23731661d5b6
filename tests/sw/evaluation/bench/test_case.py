"""A line of the benchmark: its shape, what it counts, and what its result depends on."""

from __future__ import annotations

import pytest

from fusemax.evaluation.bench import Case


def test_shape_in_words() -> None:
    case = Case.from_shape("3x100x77x64x32", latency_cycles=240)
    assert case == Case(heads=3, queries=100, keys=77, e=64, f=32, latency_cycles=240)
    assert case.shape == "3x100x77x64x32"


@pytest.mark.parametrize(
    "shape", ["", "3x100x77x64", "3x100x77x64x32x1", "0x1x1x1x1", "1x-1x1x1x1", "1x1x1x1x1.5", " 1x1x1x1x1", "axbxcxdxe"]
)
def test_wrong_shapes(shape: str) -> None:
    with pytest.raises(
        ValueError, match=r"^a shape must be heads, queries, keys, E and F as in 8x256x256x64x64, not "
    ) as raised:
        Case.from_shape(shape)
    assert str(raised.value).endswith(repr(shape))


def test_figures_by_hand() -> None:
    """3 heads, 7 x 5 tiles of 16 x 16 and 98 slots."""
    case = Case(heads=3, queries=100, keys=77, e=64, f=32, beat_interval_cycles=4)
    assert case.macs == 3 * 100 * 77 * 96
    assert case.expected_cycles == 3 * 7 * 5 * 98
    assert case.utilisation(20_000) == pytest.approx(3 * 100 * 77 * 96 / (256 * 20_000))
    assert case.limit == pytest.approx(3 * 100 * 77 * 96 / (256 * 3 * 7 * 5 * 98))
    assert case.bytes_per_cycle == 4
    assert Case(heads=1, queries=32, keys=64, e=64, f=64).limit == pytest.approx(128 / 130)


def test_the_target_is_no_parameter() -> None:
    case = Case(heads=1, queries=2, keys=3, e=4, f=5, target=0.9)
    assert case.parameters() == Case(heads=1, queries=2, keys=3, e=4, f=5).parameters()
    assert case.parameters() == {
        "config": "base",
        "heads": 1,
        "queries": 2,
        "keys": 3,
        "e": 4,
        "f": 5,
        "latency_cycles": 60,
        "beat_interval_cycles": 1,
        "modelled": False,
    }

"""The published design in closed form, and that the figures of it that are quoted are its own."""

from __future__ import annotations

import pytest

from fusemax.evaluation.bench import RIVALS, paper_utilisation
from fusemax.evaluation.bench.paper import paper_cycles_per_tile


def test_by_hand() -> None:
    """E = F = 64: 1 + 64 + 64/M1 binds; E = 128, F = 64: 129 does."""
    assert paper_cycles_per_tile(64, 64, 4) == 1 + 64 + 16 + 1 + 8 + 64
    assert paper_cycles_per_tile(128, 64, 4) == 129 + 1 + 8 + 64
    assert paper_utilisation(64, 64, 1024) == pytest.approx(128 / 154)
    assert paper_utilisation(64, 64, 1025) == pytest.approx(128 / (65 + 64 / 5 + 73))
    assert paper_utilisation(64, 64, 64, rows=16) == paper_utilisation(64, 64, 1024)


def test_rivals() -> None:
    (fusemax,) = (rival for rival in RIVALS if rival.name == "FuseMax")
    assert fusemax.low == round(paper_utilisation(64, 64, 1 << 10), 3)
    # Rounded up in favour of the rival.
    assert 0 <= fusemax.high - paper_utilisation(64, 64, 1 << 20) < 1e-3
    (fsa,) = (rival for rival in RIVALS if rival.name == "FSA")
    assert fsa.low == fsa.high == pytest.approx(2 * 128 / (5 * 128 + 10), abs=5e-4)
    assert all(0 < rival.low <= rival.high < 1 and rival.source for rival in RIVALS)

"""Faults at random times; the full number of them runs in benchmarks/regress.py."""

from __future__ import annotations

import pytest

from fusemax_sim.injections import inject_many

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("config", ["tiny", "small", "odd3x5"])
@pytest.mark.parametrize("seed", [1, 2])
def test_injections(config: str, seed: int) -> None:
    assert len(inject_many(config, seed, 10)) == 10

"""Faults at random times; the full number of them runs in benchmarks/regress.py."""

from __future__ import annotations

import pytest

from fusemax_sim.fault_injection import inject_faults

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("config", ["tiny", "small", "odd3x5"])
@pytest.mark.parametrize("seed", [1, 2])
def test_injections(config: str, seed: int) -> None:
    assert len(inject_faults(config, seed, 10)) == 10

"""Random problems on the emitted Verilog, with and without stalls, against the model; ``make regress`` runs more of them."""

from __future__ import annotations

import pytest

from fusemax_sim import problems

pytestmark = pytest.mark.cosim

#: Seeds for each configuration; other ones than those of benchmarks/regress.py.
SEEDS = {
    # First: its simulator takes longest to build.
    "base": range(6),
    "tiny": range(20),
    "small": range(16),
    "odd3x5": range(18),
    "flat2x7": range(5),
    "tall9x2": range(5),
    "wide5x6": range(5),
}


@pytest.mark.parametrize(("config", "seed"), [(config, seed) for config, seeds in SEEDS.items() for seed in seeds])
def test_problem(config: str, seed: int) -> None:
    problems.check(config, seed)

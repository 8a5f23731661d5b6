"""What a query gets depends on what it may see and on nothing else: on the emitted Verilog, against the model too."""

from __future__ import annotations

import os

import numpy as np
import pytest
from attention_problems import MACHINES, Problem, problems
from hypothesis import HealthCheck, given, settings
from isolation import cases, check, decoding, one_visible_key, row_bits, table

import fusemax

pytestmark = pytest.mark.cosim

#: Random calls of each configuration, three times each; ``make regress`` runs 40.
PROBLEMS = int(os.environ.get("FUSEMAX_RTL_PROBLEMS", "50")) // 5
TIMEOUT_S = 120.0


@pytest.fixture(scope="module", params=["base", *(name for name in MACHINES if name != "base")])
def device(request: pytest.FixtureRequest):
    """One machine for all calls of a configuration, so that memories and banks hold what is left of other calls."""
    with fusemax.open("rtl", MACHINES[request.param]) as opened:
        yield opened


@pytest.mark.timeout(1200)
def test_nothing_that_a_query_may_not_see_counts(device: fusemax.Device) -> None:
    changed = []

    @settings(
        max_examples=PROBLEMS,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(cases(problems(configs=(device.config.name,))))
    def compare(case: tuple[Problem, tuple[int, ...], int]) -> None:
        problem, row, _ = case
        changed.append(check(case, device))
        with fusemax.open("model", device.config) as model:
            expected = row_bits(problem.run(model), row)
        for found, bits in zip(row_bits(problem.run(device, timeout=TIMEOUT_S), row), expected, strict=True):
            np.testing.assert_array_equal(found, bits)

    compare()
    assert any(changed)


def test_calls_that_were_wrong_once(device: fusemax.Device) -> None:
    table(device)


def test_one_visible_key(device: fusemax.Device) -> None:
    for seed in range(2):
        one_visible_key(device, seed)


@pytest.mark.timeout(1200)
def test_decoding_is_prefill(device: fusemax.Device) -> None:
    decoding(device, tokens=64 if device.config.name == "tiny" else 9)

"""The same bits for a query, whatever carries it, on the emitted Verilog and on a pool of it too: those of the model."""

from __future__ import annotations

import os

import pytest
from carriers import CARRIERS, Prompt, check, prompts, whole
from hypothesis import HealthCheck, given, settings

import fusemax

pytestmark = pytest.mark.cosim

#: Random prompts of each way; ``make regress`` runs 20.
PROBLEMS = max(1, int(os.environ.get("FUSEMAX_RTL_PROBLEMS", "50")) // 10)


@pytest.fixture(scope="module", params=["one", "pool"])
def device(request: pytest.FixtureRequest):
    with fusemax.open("rtl", "tiny", workers=2 if request.param == "pool" else None) as opened:
        yield opened


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.__name__)
def test_whatever_carries_a_query(device: fusemax.Device, carrier) -> None:
    with fusemax.open("model", "tiny") as model:

        @settings(max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @given(prompts([device.config], most=24))
        def compare(prompt: Prompt) -> None:
            check(prompt, whole(model, prompt), carrier, device)

        compare()

"""Masks, shared heads, states and scales, all combined, on the emitted Verilog with and without stalls, against the model."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from attention_problems import MACHINES, Problem, problems
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusemax
from fusemax import State
from fusemax_sim.problems import CYCLES_OUTSIDE, EXACT_COUNTERS

pytestmark = pytest.mark.cosim

#: Random sequences of one to four calls for each configuration; ``make regress`` runs 200.
PROBLEMS = int(os.environ.get("FUSEMAX_RTL_PROBLEMS", "15"))
MEMORIES = st.builds(
    fusemax.Memory,
    read_latency_cycles=st.sampled_from([1, 2, 7, 60, 250]),
    stall_probability=st.sampled_from([0.05, 0.2, 0.5, 0.8]),
    seed=st.integers(0, 99),
    beat_interval_cycles=st.sampled_from([1, 1, 2, 4]),
    outstanding_bursts=st.sampled_from([1, 2, 4, 64]),
)
TIMEOUT_S = 120.0


def parts(result: Any) -> list[np.ndarray]:
    """Bits of everything that a call has given."""
    results = result if isinstance(result, tuple) else (result,)
    arrays: list[np.ndarray] = []
    for each in results:
        arrays += [each.max, each.denominator, each.numerator] if isinstance(each, State) else [each]
    return [array.view(f"u{array.itemsize}") for array in arrays]


@pytest.mark.parametrize("config", MACHINES)
def test_verilog_is_the_model(config: str) -> None:
    @settings(
        max_examples=PROBLEMS,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(problems(configs=(config,)), min_size=1, max_size=4), st.one_of(st.none(), MEMORIES))
    def compare(calls: list[Problem], memory: fusemax.Memory | None) -> None:
        machine = MACHINES[config]
        with fusemax.open("model", machine) as model, fusemax.open("rtl", machine, memory=memory or fusemax.Memory()) as rtl:
            for number, problem in enumerate(calls):
                try:
                    check(problem, model, rtl, exact=memory is None)
                except BaseException as error:
                    error.add_note(f"call {number} with {memory}; on the model: {problem.command}")
                    raise

    compare()


def check(problem: Problem, model: fusemax.Device, rtl: fusemax.Device, *, exact: bool) -> None:
    """All results, and all counters that do not depend on the memory; if ``exact`` those that do, too."""
    expected, counters = parts(problem.run(model)), model.counters.values
    found, counted = parts(problem.run(rtl, timeout=TIMEOUT_S)), rtl.counters.values
    # From the doorbell to the first interrupt, as counted beside the machine; of a call without jobs there is none.
    outside_cycles = rtl.transport.testbench_cycles if counted["jobs"] else 0
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # An iteration may be empty while tiles are left out; a slow memory lets the walker get ahead.
    names = counters if exact else [name for name in EXACT_COUNTERS if name != "slots_empty"]
    assert {name: counted[name] for name in names} == {name: counters[name] for name in names}
    whole = counted["cycles"] + (CYCLES_OUTSIDE if counted["cycles"] else 0)
    # Of several jobs one in the midst may have raised the interrupt.
    assert outside_cycles == whole if counted["jobs"] <= 1 else 0 < outside_cycles <= whole

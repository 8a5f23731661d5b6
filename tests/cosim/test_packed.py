"""Packed sequences on the emitted Verilog: the model's bits and counters, and no gap between the jobs of a call."""

from __future__ import annotations

import os
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.spec import Config
from fusemax_sim.problems import CONFIGS, EXACT_COUNTERS

pytestmark = pytest.mark.cosim

#: Random calls of each configuration.
PROBLEMS = int(os.environ.get("FUSEMAX_RTL_PROBLEMS", "15"))
TIMEOUT_S = 120.0
SLOW = fusemax.Memory(read_latency_cycles=7, stall_probability=0.3, seed=3)


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def run(kind: str, config: Config, arrays: list[np.ndarray], memory: fusemax.Memory | None = None, **options: Any) -> Any:
    """Output, log-sum-exp and counters."""
    more = {"memory": memory} if memory else {}
    with fusemax.open(kind, config, **more) as device:
        out, lse = fusemax.attention_varlen(*arrays, device=device, return_lse=True, timeout=TIMEOUT_S, **options)
        return bits(out), bits(lse), device.counters.values


@pytest.mark.parametrize("config", ["tiny", "odd3x5"])
def test_verilog_is_the_model(config: str) -> None:
    @settings(max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.data())
    def compare(data: st.DataObject) -> None:
        count = data.draw(st.integers(1, 6))
        lengths = [data.draw(st.lists(st.integers(0, 20), min_size=count, max_size=count)) for _ in range(2)]
        share = data.draw(st.sampled_from([1, 2, 3]))
        e, f = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
        shapes = (sum(lengths[0]), 2 * share, e), (sum(lengths[1]), 2, e), (sum(lengths[1]), 2, f)
        random = np.random.default_rng(data.draw(st.integers(0, 99)))
        arrays = [random.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16) for shape in shapes]
        arrays += [np.cumsum([0, *each]) for each in lengths]
        options = {"causal": data.draw(st.booleans()), "out_dtype": data.draw(st.sampled_from(["bfloat16", "float32"]))}
        memory = data.draw(st.sampled_from([None, SLOW]))
        *expected, counters = run("model", CONFIGS[config], arrays, **options)
        *found, counted = run("rtl", CONFIGS[config], arrays, memory or fusemax.Memory(), **options)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        # A slow memory lets the walker get ahead, past iterations that would be empty.
        names = counters if memory is None else [name for name in EXACT_COUNTERS if name != "slots_empty"]
        assert {name: counted[name] for name in names} == {name: counters[name] for name in names}

    compare()


def test_jobs_follow_each_other() -> None:
    """Eight packed sequences take a descriptor's reading more than a job of eight batch entries."""
    rows = np.ones((8 * 32, 1, 8), ml_dtypes.bfloat16)
    first = np.arange(0, 8 * 32 + 1, 32)
    batch = rows.reshape(8, 1, 32, 8)
    cycles = []
    for run_on, jobs in (
        (lambda device: fusemax.attention_varlen(rows, rows, rows, first, first, device=device, timeout=TIMEOUT_S), 8),
        (lambda device: fusemax.attention(batch, batch, batch, device=device, timeout=TIMEOUT_S), 1),
    ):
        with fusemax.open("rtl", "tiny") as device:
            run_on(device)
            assert device.counters.jobs == jobs
            cycles.append(device.counters.cycles)
    assert 0 < cycles[0] - cycles[1] <= 40

"""Programs for functions of the score and for entropy, on the emitted Verilog with and without stalls, against the model."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.cascade import parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.compiler.program import Program
from fusemax.errors import ScoreOverflowError
from fusemax.spec import CONFIGS, Config
from fusemax_sim.problems import EXACT_COUNTERS

pytestmark = pytest.mark.cosim

#: Random programs of each configuration; ``make regress`` runs 200.
PROBLEMS = int(os.environ.get("FUSEMAX_RTL_PROBLEMS", "20"))
#: Few hold registers, and deeper PEs with more of them.
MACHINES = {
    # As in test_attentions.py: one simulator for both.
    "tiny": replace(CONFIGS["tiny"], name="tiny_functions", contexts=4, functions=True, entropy=True),
    "deep": Config(name="deep_programs", rows=5, columns=3, contexts=5, pe_latency=5, functions=True, entropy=True),
}
WEIGHTS = (
    "sigmoid(QK[m, p])",
    "sigmoid(2 * QK[m, p] - 3)",
    "elu1(QK[m, p])",
    "3 * QK[m, p]",
    "relu(QK[m, p] + 1)",
    "exp(QK[m, p])",
    "exp(min(QK[m, p], 0))",
    "entropy",
    "softmax",
)
TEXTS = {
    name: (DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8")
    for name in ("sigmoid_attention", "sigmoid_attention_normalized")
}
TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Problem:
    """A program and a call of it."""

    machine: str
    weight: str
    normalized: bool
    e: int
    f: int
    queries: int
    keys: int
    spread: float
    seed: int
    options: tuple[tuple[str, Any], ...]

    def program(self) -> Program:
        config = MACHINES[self.machine]
        if self.weight in ("entropy", "softmax"):
            name = "attention_entropy" if self.weight == "entropy" else "attention_1pass"
            return fusemax.compile(name, head_dim=self.e, value_dim=self.f, config=config)
        signed = self.weight.startswith("3")
        text = TEXTS["sigmoid_attention_normalized" if self.normalized and not signed else "sigmoid_attention"]
        cascade = parse(text.replace("sigmoid(QK[m, p])", self.weight))
        return fusemax.compile(cascade, head_dim=self.e, value_dim=self.f, config=config)

    def run(self, device: fusemax.Device, **options: Any) -> np.ndarray | str:
        """Bits of the result, or that a score was out of range."""
        shapes = (2, self.queries, self.e), (2, self.keys, self.e), (2, self.keys, self.f)
        q, k, v = (
            np.random.default_rng([self.seed, number]).normal(size=shape).astype(ml_dtypes.bfloat16)
            for number, shape in enumerate(shapes)
        )
        q = (q.astype(np.float32) * self.spread).astype(ml_dtypes.bfloat16)
        try:
            result = fusemax.attention(q, k, v, device=device, program=self.program(), **dict(self.options), **options)
        except ScoreOverflowError:
            return "overflow"
        return result.view(f"u{result.itemsize}")


problems = st.builds(
    Problem,
    machine=st.sampled_from(sorted(MACHINES)),
    weight=st.sampled_from(WEIGHTS),
    normalized=st.booleans(),
    e=st.integers(1, 24),
    f=st.integers(1, 24),
    queries=st.integers(1, 12),
    keys=st.integers(1, 24),
    spread=st.sampled_from([0.1, 1.0, 1.0, 4.0, 40.0]),
    seed=st.integers(0, 1 << 20),
    options=st.tuples(
        st.tuples(st.just("out_dtype"), st.sampled_from(["float32", "bfloat16"])),
        st.tuples(st.just("causal"), st.booleans()),
        st.tuples(st.just("query_offset"), st.integers(-4, 12)),
        st.tuples(st.just("window"), st.sampled_from([None, (3, -1), (2, 2)])),
    ),
)
MEMORIES = st.builds(
    fusemax.Memory,
    read_latency_cycles=st.sampled_from([1, 7, 60]),
    stall_probability=st.sampled_from([0.2, 0.5, 0.8]),
    seed=st.integers(0, 99),
)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_verilog_is_the_model(machine: str) -> None:
    @settings(
        max_examples=PROBLEMS,
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(problems, st.one_of(st.none(), MEMORIES))
    def compare(problem: Problem, memory: fusemax.Memory | None) -> None:
        check(replace(problem, machine=machine), memory)

    compare()


def check(problem: Problem, memory: fusemax.Memory | None) -> None:
    """The result, and all counters that do not depend on the memory; with the default one those that do, too."""
    config = MACHINES[problem.machine]
    with fusemax.open("model", config) as model:
        expected, counters = problem.run(model), model.counters.values
    with fusemax.open("rtl", config, memory=memory or fusemax.Memory()) as rtl:
        found, counted = problem.run(rtl, timeout=TIMEOUT_S), rtl.counters.values
    np.testing.assert_array_equal(found, expected)
    names = counters if memory is None else [name for name in EXACT_COUNTERS if name != "slots_empty"]
    assert {name: counted[name] for name in names} == {name: counters[name] for name in names}


@pytest.mark.parametrize("machine", sorted(MACHINES))
def test_scores_at_the_end_of_the_linear_range(machine: str) -> None:
    """Just in range and just out of it, positive and negative."""
    config = MACHINES[machine]
    program = fusemax.compile(
        parse(TEXTS["sigmoid_attention"].replace("sigmoid(QK[m, p])", "1 * QK[m, p]")), head_dim=1, config=config
    )
    for device in ("model", "rtl"):
        with fusemax.open(device, config) as opened:
            for score, fits in ((31.75, True), (-31.75, True), (32.25, False), (-32.25, False)):
                q, k, v = (np.full((1, 1), number, np.float32) for number in (1, score, 1))
                if fits:
                    out = fusemax.attention(q, k, v, 1.0, opened, program=program, out_dtype="float32")
                    assert out[0, 0] == score
                else:
                    with pytest.raises(ScoreOverflowError):
                        fusemax.attention(q, k, v, 1.0, opened, program=program)

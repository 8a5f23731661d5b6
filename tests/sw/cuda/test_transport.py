"""The device ``cuda`` against the model device: descriptors, chains, caches, counters, every bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from attention_problems import MACHINES, Problem, problems
from gpu_place import INTERPRETER, all_bits
from hypothesis import HealthCheck, given, settings

import fusemax

pytestmark = INTERPRETER


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(problems(most=9))
def test_random_calls(problem: Problem) -> None:
    options = problem.options
    if not any(isinstance(value, list) for value in options.values()):
        problem = replace(problem, share=min(problem.share, 2))
    results = []
    for kind in ("model", "cuda"):
        with fusemax.open(kind, MACHINES[problem.config], memory_bytes=1 << 22) as device:
            results.append((all_bits(problem.run(device)), device.counters))
    assert results[0] == results[1]


def test_a_cache_of_keys() -> None:
    """Pages that lie apart are a chain of jobs."""
    random = np.random.default_rng(3)
    q, k, v = (random.standard_normal((1, 2, length, 4), np.float32) for length in (1, 11, 11))
    results = []
    for kind in ("model", "cuda"):
        with fusemax.open(kind, "tiny", memory_bytes=1 << 20) as device:
            cache = fusemax.KVCache(device, heads=2, e=4, page_size=4, pages=6)
            for name in "ab":
                cache.allocate(name)
            for name, start, stop in (("a", 0, 5), ("b", 0, 5), ("a", 5, 11)):
                cache.append(name, k[0, :, start:stop], v[0, :, start:stop])
            results.append(all_bits(cache.attend(q, ["a"], return_state=True)))
    assert results[0] == results[1]


def test_other_programs_run_in_numpy() -> None:
    config = replace(MACHINES["tiny"], name="tiny_functions", functions=True)
    random = np.random.default_rng(4)
    q, k, v = (random.standard_normal((length, 4), np.float32) for length in (3, 5, 5))
    results = []
    for kind in ("model", "cuda"):
        with fusemax.open(kind, config, memory_bytes=1 << 20) as device:
            results.append(all_bits(fusemax.sigmoid_attention(q, k, v, device=device)))
    assert results[0] == results[1]

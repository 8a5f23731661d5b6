"""Attention systems on the emitted Verilog: every sweep has the model's bits, and its counters are the cycle model's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax

pytestmark = pytest.mark.cosim

#: Head dim: twice as much, and some more contraction elements, fit into max_e of ``tiny``.
E = 16


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(ml_dtypes.bfloat16)


def qkv(length: int, heads: int = 2) -> list[np.ndarray]:
    return [random(seed, heads, length, E) for seed in range(3)]


def sinks(length: int) -> list[np.ndarray]:
    """Queries with a direction in common, which three keys have too."""
    q, k, v = (x.astype(np.float64) for x in qkv(length, 1))
    q[..., 0] += 4
    k[:, [0, length // 8, length // 3], 0] += 4
    return [x.astype(ml_dtypes.bfloat16) for x in (q, k, v)]


def routing(variant: str, *, shared: bool, **options: Any) -> Callable[..., Any]:
    q, k, v = qkv(37)
    centroids = np.random.default_rng(8).standard_normal((2, 3, E))
    return lambda **to: fusemax.routing_attention(q, None if shared else k, v, centroids, variant=variant, **options, **to)


MEMORY = (np.ones((2, 3, E)), np.ones((2, 3, E)))
SYSTEMS: dict[str, Callable[..., Any]] = {
    "flow": lambda **to: fusemax.flow_attention(*qkv(37), **to),
    "flow, one part": lambda **to: fusemax.flow_attention(*qkv(37), parts=1, **to),
    "calibrated, factored": lambda **to: fusemax.calibrated_attention(*sinks(45), form="factored", **to),
    "calibrated, masked": lambda **to: fusemax.calibrated_attention(*sinks(45), form="masked", **to),
    "all sinks": lambda **to: fusemax.sink_rate(*qkv(30)[:2], **to).alpha,
    "one sink": lambda **to: fusemax.sink_rate(*qkv(30), key=0, **to).alpha,
    "entropy": lambda **to: fusemax.attention_entropy(*qkv(30), causal=True, **to).entropy,
    "routing": routing("google", shared=False),
    "routing, shared": routing("lucidrains", shared=True, causal=False),
    "routing, lists of their own": routing("lucidrains", shared=False, memory=MEMORY),
    "soft cap": lambda **to: scored(**to),
    "cascade": lambda **to: fusemax.run(
        "calibration", {"Q": random(0, E, 40), "K": random(1, E, 40), "V": random(2, 5, 40)}, **to
    )["AV"],
}


def scored(**to: Any) -> np.ndarray:
    """Scores, weights and a capped output in one array, of queries that share keys."""
    q, (_, k, v) = random(3, 4, 37, E), qkv(37)
    options = {"causal": True, "window": (20, 0), "return_weights": True, "return_scores": "capped"}
    results = fusemax.attention(8 * q, k, v, softcap=5.0, out_dtype="float32", **options, **to)
    return np.concatenate([result.reshape(-1) for result in results])


#: Those that need operations which only some machines have.
OPTIONAL: dict[str, Callable[..., Any]] = {
    "flow, causal": lambda **to: fusemax.flow_attention(*qkv(45), causal=True, chunk=16, **to),
    "sigmoid": lambda **to: fusemax.sigmoid_attention(*qkv(37), causal=True, window=(11, 0), **to),
    "sigmoid, normalised, with a bias": lambda **to: fusemax.sigmoid_attention(*qkv(37), bias=-3.5, normalised=True, **to),
    "elu, one sweep": lambda **to: fusemax.elu_attention(*qkv(37), form="one", causal=True, **to),
    "elu, two sweeps": lambda **to: fusemax.elu_attention(*qkv(37), form="two", normalised=True, **to),
    "identity kernel": lambda **to: fusemax.linear_attention(*qkv(37), kernel="identity", normaliser="max1", **to),
    "no key seen": lambda **to: fusemax.sigmoid_attention(*qkv(20), causal=True, query_offset=-9, **to),
}


@pytest.fixture(scope="module")
def optional() -> Iterator[list[fusemax.Device]]:
    """A machine with all options, as Verilog and as the model."""
    config = replace(fusemax.CONFIGS["tiny"], name="tiny_functions", contexts=4, functions=True, entropy=True)
    with fusemax.open("rtl", config) as rtl, fusemax.open("model", config) as model:
        yield [rtl, model]


@pytest.mark.parametrize("system", [*OPTIONAL, "flow", "entropy", "soft cap"])
def test_bits_and_cycles_with_options(optional, system: str) -> None:
    results, counters = [], []
    for device in optional:
        counters.append([])
        results.append((OPTIONAL | SYSTEMS)[system](device=device, counters=counters[-1]))
    np.testing.assert_array_equal(*results)
    assert [c.values for c in counters[0]] == [c.values for c in counters[1]]


@pytest.mark.parametrize("system", SYSTEMS)
def test_bits_and_cycles(open_pair, system: str) -> None:
    pair = open_pair("tiny")
    results, counters = [], []
    for device in (pair.rtl, pair.model):
        counters.append([])
        results.append(SYSTEMS[system](device=device, counters=counters[-1]))
    np.testing.assert_array_equal(*results)
    assert counters[0]
    assert [c.values for c in counters[0]] == [c.values for c in counters[1]]


def test_bits_with_a_memory_that_stalls(open_pair) -> None:
    pair = open_pair("tiny", stall_probability=0.2, seed=5)
    for system in ("flow", "calibrated, factored"):
        np.testing.assert_array_equal(*(SYSTEMS[system](device=device) for device in (pair.rtl, pair.model)))


def test_biased(open_pair) -> None:
    pair = open_pair("tiny")
    q, k, v = qkv(30)
    options = {"k_bias": k[:, 0], "v_bias": v[:, 0], "causal": True, "window": (9, 0)}
    outs = [fusemax.biased_attention(q, k, v, device=device, **options) for device in (pair.rtl, pair.model)]
    np.testing.assert_array_equal(*(out.view(np.uint16) for out in outs))

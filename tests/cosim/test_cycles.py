"""Cycle model against the emitted Verilog: every counter, to the cycle, whatever the memory's timing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.model import cycles
from fusemax.planning.memory_map import Shape
from fusemax_sim.problems import CONFIGS

pytestmark = pytest.mark.cosim

#: The requirement; what is checked is that there is no difference at all.
MOST_DEVIATION = 0.01

MEMORIES: dict[str, dict[str, Any]] = {
    "ideal": {"read_latency_cycles": 1},
    "default": {},
    "latency 240": {"read_latency_cycles": 240},
    "half the bandwidth": {"beat_interval_cycles": 2},
    "a quarter of the bandwidth": {"beat_interval_cycles": 4},
}
#: Shapes for each configuration, every one of them with all memories.
SHAPES = {"base": 6, "tiny": 18, "small": 16, "odd3x5": 16}


def shapes(config: str) -> Iterator[Shape]:
    """Random shapes: some tiles in every direction, head dims of any size, tails nearly everywhere."""
    machine, random = CONFIGS[config], np.random.default_rng(sum(config.encode()))
    for _ in range(SHAPES.get(config, 4)):
        yield Shape(
            batch=int(random.integers(1, 3)),
            heads=int(random.integers(1, 3)),
            queries=int(random.integers(1, 4 * machine.columns)),
            keys=int(random.integers(1, 5 * machine.rows)),
            e=int(random.integers(1, machine.max_e + 1)),
            f=int(random.integers(1, machine.max_f + 1)),
            out_dtype=str(random.choice(["bfloat16", "float32"])),
        )


def deviations(config: str, memory: dict[str, Any], open_pair: Callable[..., Any], arrays: Callable[..., Any]) -> list[str]:
    """What differs, run by run, on a machine that is reset before each."""
    rtl = open_pair(config, **memory).rtl
    found = []
    for shape in shapes(config):
        device = fusemax.Device(rtl.transport, CONFIGS[config])
        q, k, v = arrays(shape.queries, shape.keys, shape.e, shape.f, leading=(shape.batch, shape.heads))
        fusemax.attention(q, k, v, device=device, out_dtype=shape.out_dtype, timeout=60)
        program = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=CONFIGS[config])
        model, measured = cycles(program, shape, fusemax.Memory(**memory)).values, device.counters.values
        assert abs(model["cycles"] - measured["cycles"]) <= MOST_DEVIATION * measured["cycles"], str(shape)
        found += [
            f"{shape}: {name} {model[name]}, the Verilog's {measured[name]}" for name in model if model[name] != measured[name]
        ]
    return found


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("config", SHAPES)
def test_cycles(config: str, memory: str, open_pair: Callable[..., Any], arrays: Callable[..., Any]) -> None:
    assert deviations(config, MEMORIES[memory], open_pair, arrays) == []


@pytest.mark.parametrize("config", ["tiny", "flat2x7", "tall9x2", "wide5x6"])
def test_all_limits_at_once(config: str, open_pair: Callable[..., Any], arrays: Callable[..., Any]) -> None:
    """A memory that is slow in every way, with the other values of the structural parameters."""
    memory = {"read_latency_cycles": 113, "beat_interval_cycles": 3, "outstanding_bursts": 2}
    assert deviations(config, memory, open_pair, arrays) == []

"""Programs without overlap and without co-issue on the emitted Verilog: bits and cycles, with and without stalls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import fusemax
from fusemax.compiler.modulo_schedule import Binding
from fusemax.model import cycles
from fusemax.planning.descriptors import Shape
from fusemax_sim.problems import CONFIGS

pytestmark = pytest.mark.cosim

#: P, M, E, F: tails, several groups of query tiles, one tile, the smallest head dims.
SHAPES = ((33, 21, 16, 12), (9, 30, 5, 9), (3, 2, 7, 3), (11, 13, 1, 1))


@pytest.mark.parametrize("config", ["tiny", "odd3x5"])
@pytest.mark.parametrize("binding", Binding, ids=lambda binding: binding.value)
def test_bits_and_cycles(config: str, binding: Binding, open_pair: Callable[..., Any], arrays: Callable[..., Any]) -> None:
    """A program follows another one without a reset. The cycle model has every counter of the machine that does not stall."""
    calm = open_pair(config)
    stalled = open_pair(config, stall_probability=0.3, seed=3)
    for number, (queries, keys, e, f) in enumerate(SHAPES):
        program = fusemax.compile(head_dim=e, value_dim=f, config=CONFIGS[config], binding=binding)
        q, k, v = arrays(queries, keys, e, f, leading=(2,))
        calm(q, k, v, program=program)
        counters = calm.rtl.counters.values
        assert counters == calm.model.counters.values
        if number == 0:
            shape = Shape(heads=2, queries=queries, keys=keys, e=e, f=f)
            assert cycles(program, shape).values == counters
        stalled(q, k, v, program=program)
        assert stalled.rtl.counters.cycles > counters["cycles"]

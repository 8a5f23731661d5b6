"""Descriptor layout and nested loops."""

import random
from itertools import product

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from fusemax.spec import DESCRIPTOR
from fusemax_hw.control.job import ROW_FIELDS, descriptor_layout, job_layout, nest, tensor_fields


@pytest.mark.parametrize("counts", [(1,), (3,), (1, 1, 1), (2, 1, 3), (3, 4, 1, 2)])
def test_loops(counts):
    rng = random.Random(str(counts))
    m = Module()
    counters = [Signal(8, init=1, name=f"counter_{index}") for index in range(len(counts))]
    step = Signal()
    loops = [(counter, counter == count) for counter, count in zip(counters, counts, strict=True)]
    ends = nest(m, step, loops)

    async def bench(ctx):
        # The innermost counter is the first, and all start anew at the end.
        numbers = [place[::-1] for place in product(*(range(1, count + 1) for count in counts[::-1]))]
        for place in 2 * numbers:
            for go in (*(0 for _ in range(rng.randrange(3))), 1):
                ctx.set(step, go)
                assert tuple(ctx.get(counter) for counter in counters) == place
                at_end = [number == count for number, count in zip(place, counts, strict=True)]
                assert [bool(ctx.get(end)) for end in ends] == [all(at_end[: index + 1]) for index in range(len(counts))]
                await ctx.tick()

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_descriptor():
    layout = descriptor_layout()
    place = 0
    for field in DESCRIPTOR.fields:
        assert (layout[field.name].offset, layout[field.name].width) == (place, field.bits)
        place += field.bits


@pytest.mark.parametrize("tensor", list(ROW_FIELDS))
def test_what_walkers_keep(tensor):
    names = tensor_fields(tensor)
    assert len(set(names)) == len(names)
    assert {f"{tensor}_{name}" for name in ("address", "row_stride", "head_stride", "batch_stride")} <= set(names)
    assert list(job_layout(names).members) == [*names, "restart"]

"""Countdown: iterations one by one, ``last`` in step with them."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from fusemax_hw.control.countdown import Countdown


@pytest.mark.parametrize("counts", [[1, 1, 1], [2, 1, 3], [5, 256, 1, 2]])
def test_iterations(counts):
    m = Module()
    loop = Countdown(m, 8, "loop")
    start, step, more = Signal(), Signal(), Signal(8)
    with m.If(step):
        loop.step(more)
    with m.If(start):
        loop.start(more)
    seen = []

    async def bench(ctx):
        ctx.set(more, counts[0] - 1)
        ctx.set(start, 1)
        await ctx.tick()
        ctx.set(start, 0)
        for index, count in enumerate(counts):
            ctx.set(more, (counts[index + 1] if index + 1 < len(counts) else 1) - 1)
            for iteration in range(count):
                # A cycle without a step changes nothing.
                for go in (0, 1):
                    ctx.set(step, go)
                    seen.append((ctx.get(loop.left), ctx.get(loop.last)))
                    await ctx.tick()
                    assert seen[-1] == (count - 1 - iteration, int(iteration == count - 1))
            ctx.set(step, 0)

    simulator = Simulator(m)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(seen) == 2 * sum(counts)

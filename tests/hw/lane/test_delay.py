import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax_hw.lane.delay import DelayLine


@pytest.mark.parametrize("cycles", [2, 3, 6, 8, 9, 13])
def test_delays(cycles):
    values = [int(value) for value in np.random.default_rng(cycles).integers(0, 1 << 20, 100)]
    line = DelayLine(20, cycles)
    got = []

    async def testbench(ctx):
        for cycle in range(len(values) + cycles):
            ctx.set(line.i, values[cycle] if cycle < len(values) else 0)
            got.append(ctx.get(line.o))
            await ctx.tick()

    simulator = Simulator(line)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert got[cycles:] == values


def test_too_short():
    with pytest.raises(ValueError, match="cycles must be at least 2, not 1"):
        DelayLine(8, 1)

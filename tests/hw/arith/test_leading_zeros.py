import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from fusemax_hw.arith.leading_zeros import count_leading_zeros


@pytest.mark.parametrize("width", [1, 2, 5, 8, 11])
def test_every_value(width):
    value = Signal(width)
    m = Module()
    count, zero = count_leading_zeros(m, value)

    async def testbench(ctx):
        for number in range(1 << width):
            ctx.set(value, number)
            assert ctx.get(zero) == (number == 0)
            if number:
                assert ctx.get(count) == width - number.bit_length()

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()

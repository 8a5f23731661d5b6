import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from fusemax_hw.arith.shift import shift_left, shift_right_sticky


@pytest.mark.parametrize("width", [5, 8])
def test_every_value(width):
    value, amount = Signal(width), Signal(4)
    m = Module()
    left = shift_left(m, value, amount)
    right, lost = shift_right_sticky(m, value, amount)

    async def testbench(ctx):
        for number in range(1 << width):
            for shift in range(16):
                ctx.set(value, number)
                ctx.set(amount, shift)
                assert ctx.get(left) == number << shift & (1 << width) - 1
                assert ctx.get(right) == number >> shift
                assert ctx.get(lost) == (number >> shift << shift != number)

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()

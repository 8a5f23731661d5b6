"""The PE's shifter against fusemax.arith.placement, at every shift."""

import random

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.sim import Simulator

from fusemax.arith.placement import MAX_SHIFT, place
from fusemax_hw.pe.shift import place_product


@pytest.mark.parametrize(("bits", "align"), [(27, 9), (27, 0), (9, 4)])
def test_every_shift(bits, align):
    rng = random.Random(bits + align)
    product, shift = Signal(signed(bits)), Signal(range(MAX_SHIFT + 1))
    placed = place_product(product, align, shift)
    assert (len(placed.floor), placed.floor.shape().signed, len(placed.carry)) == (bits + align, True, 1)
    largest = 1 << bits - 1
    edges = (0, 1, -1, largest - 1, -largest, largest >> 1, -(largest >> 1) - 1)

    async def bench(ctx):
        for amount in range(MAX_SHIFT + 1):
            ctx.set(shift, amount)
            for value in (*edges, *(rng.randrange(-largest, largest) >> rng.randrange(bits) for _ in range(30))):
                ctx.set(product, value)
                floor, carry = ctx.get(placed.floor), ctx.get(placed.carry)
                assert floor == value << align >> amount
                assert floor + carry == int(place(value, align, amount))

    simulator = Simulator(Module())
    simulator.add_testbench(bench)
    simulator.run()

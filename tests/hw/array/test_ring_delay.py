"""Ring delay: words come out in step, and none that was written before a reset counts."""

import random

import pytest
from amaranth.hdl import ResetInserter, Signal
from amaranth.lib import data
from amaranth.sim import Simulator

from fusemax_hw.array.ring_delay import RingDelay

LAYOUT = data.StructLayout({"valid": 1, "number": 12, "mark": 2})


@pytest.mark.parametrize("cycles", [2, 3, 4, 7, 16])
def test_delays_and_resets(cycles):
    rng = random.Random(cycles)
    ring, reset = RingDelay(LAYOUT, cycles, frozenset({"valid", "mark"})), Signal()
    words, compared = [], 0

    async def bench(ctx):
        nonlocal compared
        for _ in range(40 * cycles):
            word = {"valid": rng.getrandbits(1), "number": rng.getrandbits(12), "mark": rng.getrandbits(2)}
            now = rng.random() < 0.3 / cycles
            ctx.set(ring.word, word)
            ctx.set(reset, now)
            out = ctx.get(ring.word_out)
            if len(words) >= cycles:
                assert {name: out[name] for name in word} == words[-cycles]
                compared += 1
            else:
                assert (out.valid, out.mark) == (0, 0)
            words.append(word)
            if now:
                words.clear()
            await ctx.tick()

    simulator = Simulator(ResetInserter(reset)(ring))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert compared > 10 * cycles


def test_too_short():
    with pytest.raises(ValueError, match="cycles must be at least 2, not 1"):
        RingDelay(LAYOUT, 1, frozenset())

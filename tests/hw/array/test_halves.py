"""Chains of halves are chains: parts in order, each fed by its neighbour, entries side by side."""

import random

import pytest
from amaranth.hdl import Const, Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from fusemax.spec import CONFIGS
from fusemax_hw.array.halves import Chain, halve, slices

PAIR = data.StructLayout({"low": 3, "high": 5})


class Link(wiring.Component):
    """Hands ``word`` on a cycle later with its own ``step`` added, and shows what it had."""

    module_name = "link"

    def __init__(self, config):
        super().__init__({"word": In(12), "word_out": Out(12), "step": In(PAIR), "seen": Out(12)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.d.sync += self.word_out.eq(self.word + Value.cast(self.step))
        m.d.comb += self.seen.eq(self.word)
        return m


@pytest.mark.parametrize("count", [1, 2, 3, 8, 255, 256])
def test_halve(count):
    large, small = halve(count)
    assert large + small == count
    assert 0 <= large - small <= 1


def test_slices():
    parts = slices(Const(0xFEDCBA, 24), (3, 1, 2))
    assert [len(part) for part in parts] == [12, 4, 8]
    simulator = Simulator(Module())

    async def bench(ctx):
        assert [ctx.get(part) for part in parts] == [0xCBA, 0xD, 0xFE]

    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_chain(count):
    rng = random.Random(count)
    chain = Chain(Link, CONFIGS["tiny"], count, {"word": "word_out"})
    assert chain.module_name == f"link_chain_{count}"
    assert (len(chain.step), len(chain.seen)) == (8 * count, 12 * count)

    async def bench(ctx):
        words = [0] * (count + 1)
        for _ in range(60):
            words[0], steps = rng.getrandbits(12), [rng.getrandbits(8) for _ in range(count)]
            ctx.set(chain.word, words[0])
            ctx.set(chain.step, sum(step << 8 * index for index, step in enumerate(steps)))
            seen = ctx.get(chain.seen)
            assert [seen >> 12 * index & 0xFFF for index in range(count)] == words[:-1]
            assert ctx.get(chain.word_out) == words[-1]
            words[1:] = [word + step & 0xFFF for word, step in zip(words, steps, strict=False)]
            await ctx.tick()

    simulator = Simulator(chain)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_a_chain_has_two_parts():
    with pytest.raises(ValueError, match="count must be at least 2, not 1"):
        Chain(Link, CONFIGS["tiny"], 1, {"word": "word_out"})

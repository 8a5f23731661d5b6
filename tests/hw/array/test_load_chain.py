"""Load chain: every word reaches the feeder that it is for, once, and in step with its neighbours."""

import random
from itertools import pairwise

from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from fusemax.spec import CONFIGS
from fusemax_hw.array.load_chain import load_chain
from fusemax_hw.words import load_word

LENGTH = 5
LAYOUT = load_word(CONFIGS["tiny"], payload_bits=24, depth=64)


def test_words_arrive_where_they_belong():
    rng = random.Random(1)
    m = Module()
    loads = [Signal(LAYOUT, name=f"load_{index}") for index in range(LENGTH + 1)]
    arrivals = [load_chain(m, near, far) for near, far in pairwise(loads)]
    sent = []

    async def bench(ctx):
        arrived = set()
        for cycle in range(400):
            word = {
                "valid": int(rng.random() < 0.7),
                "skip": rng.choice((rng.randrange(LENGTH), LENGTH, 255)),
                "beat": rng.randrange(64),
                "payload": rng.getrandbits(24),
            }
            ctx.set(loads[0], word)
            sent.append(word)
            for place, (load, arrival) in enumerate(zip(loads, arrivals, strict=False)):
                if place > cycle:
                    # Nothing comes out of reset.
                    assert not ctx.get(load).valid
                    continue
                old = sent[cycle - place]
                assert ctx.get(arrival) == (old["valid"] and old["skip"] == place)
                if ctx.get(arrival):
                    arrived.add(place)
                    got = ctx.get(load)
                    assert (got.beat, got.payload) == (old["beat"], old["payload"])
            if cycle >= LENGTH:
                last, old = ctx.get(loads[-1]), sent[cycle - LENGTH]
                assert last.valid == (old["valid"] and old["skip"] >= LENGTH)
                if last.valid:
                    assert last.skip == old["skip"] - LENGTH
            await ctx.tick()
        assert arrived == set(range(LENGTH))

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

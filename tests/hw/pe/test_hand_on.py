"""Bundles handed on: every field a cycle later, and only those that make others count are cleared by a reset."""

import random

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import data
from amaranth.sim import Simulator

from fusemax_hw.pe.hand_on import hand_on

LAYOUT = data.StructLayout(
    {"valid": 1, "control": data.StructLayout({"op": 3, "index": 5}), "row": data.ArrayLayout(4, 3), "number": 9}
)


def random_word(rng):
    return {
        "valid": rng.getrandbits(1),
        "control": {"op": rng.getrandbits(3), "index": rng.getrandbits(5)},
        "row": [rng.getrandbits(4) for _ in range(3)],
        "number": rng.getrandbits(9),
    }


def test_fields_and_reset():
    rng = random.Random(1)
    m = Module()
    source, target, reset = Signal(LAYOUT), Signal(LAYOUT), Signal()
    hand_on(m, source, target, frozenset({"valid", "op"}))

    async def bench(ctx):
        expected = None
        resets = 0
        for _ in range(300):
            word, now = random_word(rng), int(rng.random() < 0.2)
            ctx.set(source, word)
            ctx.set(reset, now)
            out = ctx.get(target)
            if expected is None:
                assert (out.valid, out.control.op) == (0, 0)
            else:
                got = {
                    "valid": out.valid,
                    "control": {"op": out.control.op, "index": out.control.index},
                    "row": [out.row[index] for index in range(3)],
                    "number": out.number,
                }
                assert got == expected
            if now:
                resets += 1
                word = {**word, "valid": 0, "control": {**word["control"], "op": 0}}
            expected = word
            await ctx.tick()
        assert resets > 20

    simulator = Simulator(ResetInserter(reset)(m))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()

"""Pipeline: values travel together, stages without a register take no time, and what is dropped is gone."""

import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator

from fusemax_hw.pe.pipeline import Pipeline


@pytest.mark.parametrize("registers", [(True, True, True), (True, False, True), (False, False, True), (True, False, False)])
def test_values_travel_together(registers):
    rng = random.Random(sum(registers))
    m = Module()
    a, b, valid, reset = Signal(8), Signal(8), Signal(), Signal()
    total, product, valid_out = Signal(10), Signal(18), Signal()
    p = Pipeline(m, "take", frozenset({"valid"}))
    p.a, p.b, p.valid = a, b, valid
    p.register("add", when=registers[0])
    p.total = p.a + p.b
    p.register("multiply", last_read=("b",), when=registers[1])
    p.product = p.total * p.a
    del p.a
    p.register("out", when=registers[2])
    m.d.comb += [total.eq(p.total), product.eq(p.product), valid_out.eq(p.valid)]
    latency = sum(registers)

    async def bench(ctx):
        words, checked = [], 0
        for _ in range(300):
            word, now = (rng.getrandbits(8), rng.getrandbits(8), rng.getrandbits(1)), rng.random() < 0.1
            for signal, value in zip((a, b, valid), word, strict=True):
                ctx.set(signal, value)
            ctx.set(reset, now)
            words.append((*word, now))
            if len(words) <= latency:
                assert ctx.get(valid_out) == 0
            else:
                first, second, counts, _ = words[-1 - latency]
                # A reset of any cycle since takes the word's validity away, and nothing else.
                cleared = any(reset_then for *_, reset_then in words[-1 - latency : -1])
                assert ctx.get(valid_out) == (counts and not cleared)
                assert (ctx.get(total), ctx.get(product)) == (first + second, (first + second) * first)
                checked += 1
            await ctx.tick()
        assert checked > 200

    simulator = Simulator(ResetInserter(reset)(m))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_what_was_dropped():
    p = Pipeline(Module(), "take", frozenset())
    p.a, p.b = Signal(2), Signal(2)
    p.register("next", last_read=("a",))
    with pytest.raises(AttributeError, match="stage must have a value 'a'"):
        _ = p.a
    del p.b
    with pytest.raises(AttributeError, match="stage must have a value 'b'"):
        _ = p.b

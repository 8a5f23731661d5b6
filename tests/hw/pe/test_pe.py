"""The PE against its word-by-word model: legal words in any order, dependent ones exactly the latency apart."""

from collections import Counter

import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.spec import Config, Op
from fusemax_hw.pe import Pe
from fusemax_hw.pe.model import Partial, PeModel, PeWord

WORDS = 1200


def config_for(**changes) -> Config:
    return Config(**{"rows": 4, "columns": 4, **changes})


def random_words(config: Config, rng: np.random.Generator, count: int):
    """Legal words with their partial inputs, what is on the partial bus after each, and how often what happened."""
    model = PeModel(config)
    seen = Counter()
    #: Slot from which each hold may be read, and what is in it.
    ready = [0] * config.holds
    content = [""] * config.holds
    words, partials, results = [], [], []
    for slot in range(count):
        hold, hold_max = (int(rng.integers(config.holds)) for _ in range(2))
        op = Op(rng.choice([Op.NOP, Op.QK, Op.QK, Op.EXP, Op.SUM, Op.SLNV, Op.SLNV]))
        needed = {Op.EXP: "score", Op.SUM: "weight", Op.SLNV: "weight"}.get(op)
        if needed and (content[hold] != needed or ready[hold] > slot):
            op = Op(rng.choice([Op.NOP, Op.QK, Op.QK]))
            needed = None
        sig = int(rng.choice([-1, 1]) * rng.integers(128, 256)) if rng.random() < 0.95 else 0
        fields = {"sig": sig, "exponent": int(rng.integers(256)), "operand": int(rng.integers(-(1 << 17), 1 << 17))}
        partial = Partial(
            int(rng.integers(-(1 << config.sum_bits - 1), 1 << config.sum_bits - 1)), *map(bool, rng.integers(2, size=2))
        )
        if op == Op.QK:
            magnitude = int(rng.integers(1 << 16, 1 << 17)) if rng.random() < 0.95 else 0
            shift = int(rng.choice([rng.integers(-3, 70), rng.integers(0, 40), rng.integers(8, 20)]))
            first = bool(rng.random() < 0.3)
            fields |= {"operand": magnitude * int(rng.choice([-1, 1])), "first": first}
            low = max(-256, shift - 255)
            query_exponent = int(rng.integers(low, max(low + 1, min(shift + 1, 256))))
            fields |= {"query_exponent": query_exponent, "exponent": shift - query_exponent}
        elif op == Op.EXP:
            score, visible = model.holds[hold]
            above = int(rng.choice([0, 0, 1, rng.integers(70)])) if visible else -int(rng.integers(3))
            reference = -(-score >> config.score_frac_bits) + above
            fields |= {"operand": reference + config.weight_shift + 1}
        elif op == Op.SLNV:
            fields |= {"exponent": int(rng.choice([rng.integers(256), rng.integers(12)]))}
        fields["max"] = bool(rng.random() < 0.5) and (op == Op.NOP or (op == Op.QK and fields["first"]))
        if op in (Op.NOP, Op.SUM) and rng.random() < 0.5:
            row = int(rng.integers(config.rows))
            lo, hi = (int(rng.integers(config.rows + 1)) for _ in range(2)) if rng.random() < 0.5 else (row, config.rows)
            fields |= {"mask": True, "operand": hi << 9 | lo, "exponent": row}
        if fields["max"]:
            # A running maximum is a score; near ties are worth having.
            near = int(
                np.clip(model.score + int(rng.integers(-1, 2)), -(1 << config.score_bits - 1), (1 << config.score_bits - 1) - 1)
            )
            other = int(rng.integers(-(1 << config.score_bits - 1), 1 << config.score_bits - 1))
            partial = partial._replace(value=~near if rng.random() < 0.5 else other)
            content[hold_max], ready[hold_max] = "score", slot + config.pe_latency
            seen["max beside qk"] += op == Op.QK
            seen["max taken"] += model.visible and (not partial.valid or model.score > ~partial.value)
            seen["overflow shown"] += model.overflow and model.visible and not partial.overflow
        if needed:
            seen[f"{op.name} at once"] += ready[hold] == slot
        if op == Op.EXP:
            content[hold], ready[hold] = "weight", slot + config.pe_latency
            seen["masked weight"] += not model.holds[hold][1]
        word = PeWord(op=op, hold=hold, hold_max=hold_max, **fields)
        seen[op.name] += 1
        seen["qk after qk"] += op == Op.QK and not word.first and bool(words) and words[-1].op == Op.QK
        words.append(word)
        partials.append(partial)
        results.append(model.step(word, partial))
    return words, partials, results, seen


def west_of(word: PeWord) -> dict:
    control = {name: getattr(word, name) for name in ("op", "first", "max", "mask", "hold", "hold_max")}
    return {"control": control | {"op": word.op.value}, "sig": word.sig, "exponent": word.exponent}


def north_of(word: PeWord) -> dict:
    operand = word.operand - (1 << 18) if word.operand >= 1 << 17 else word.operand
    return {"operand": operand, "exponent": word.query_exponent}


def check(config: Config, seed: int, count: int = WORDS) -> Counter:
    """Run random words through the PE; every cycle's partial_out, east and south must be the model's."""
    words, partials, results, seen = random_words(config, np.random.default_rng(seed), count)
    dut = Pe(config)
    latency = config.pe_latency
    assert dut.latency == latency

    async def bench(ctx):
        nop = PeWord()
        for cycle in range(count + latency):
            word = words[cycle] if cycle < count else nop
            ctx.set(dut.west, west_of(word))
            ctx.set(dut.north, north_of(word))
            meets = cycle - (latency - 1)
            ctx.set(dut.partial, partials[meets]._asdict() if 0 <= meets < count else Partial(-1, True, True)._asdict())
            if cycle >= latency:
                out = ctx.get(dut.partial_out)
                assert (out.value, bool(out.valid), bool(out.overflow)) == results[cycle - latency], (
                    cycle,
                    words[cycle - latency],
                )
            if cycle:
                before = words[cycle - 1] if cycle <= count else nop
                assert ctx.get(dut.east.as_value()) == dut.west.shape().const(west_of(before)).as_value().value
                assert ctx.get(dut.south.as_value()) == dut.north.shape().const(north_of(before)).as_value().value
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


@pytest.mark.parametrize("contexts", [2, 3, 4])
@pytest.mark.parametrize("pe_latency", [2, 3, 4, 5])
def test_every_latency_and_number_of_holds(pe_latency, contexts):
    seen = check(config_for(pe_latency=pe_latency, contexts=contexts), seed=10 * pe_latency + contexts)
    # The random words must have reached what they are for.
    for event in (
        "EXP at once", "SUM at once", "SLNV at once",
        "max beside qk", "max taken", "overflow shown", "qk after qk", "masked weight",
    ):  # fmt: skip
        assert seen[event] >= 1, (event, seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"score_bits": 26, "score_frac_bits": 10, "sum_bits": 29},
        {"score_bits": 34, "score_frac_bits": 20, "sum_bits": 48},
        {"score_bits": 30, "score_frac_bits": 18, "sum_bits": 36},
        {"rows": 256, "contexts": 9, "sum_bits": 35},
    ],
)
def test_other_formats(changes):
    check(config_for(**changes), seed=3)

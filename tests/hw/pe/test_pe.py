"""The PE against its word-by-word model: legal words in any order, dependent ones exactly the latency apart."""

from collections import Counter

import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.arith.column_sum import NO_COARSE, ONE_EXPONENT, STEP_LOG2, TOP_COARSE
from fusemax.arith.linear import linear_weight
from fusemax.arith.score_slices import SLICES, slice_exponent
from fusemax.spec import Config, Op, Port, Timing
from fusemax_hw.pe import Pe
from fusemax_hw.pe.model import Partial, PeModel, PeWord, rows_seen

WORDS = 1600
SUMS = (Op.SUM, Op.SLNV, Op.ENT)
WEIGHT_READERS = (*SUMS, Op.SET, Op.ADD)
OPTIONS = ({"linear": True}, {"entropy": True}, {"functions": True}, {"functions": True, "entropy": True})


def config_for(**changes) -> Config:
    return Config(**{"rows": 4, "columns": 4, **changes})


def operations(config: Config) -> list[Op]:
    """What the machine has, the rarer the more often."""
    ops = [Op.NOP, Op.QK, Op.QK, Op.EXP, Op.EXP, Op.SUM, Op.SUM, Op.SLNV, Op.SLNV, Op.SLNV]
    ops += [Op.LIN] * 3 * config.linear + [Op.SET, Op.SET, Op.ADD, Op.ADD, Op.ADD] * config.functions
    return ops + [Op.ENT] * 3 * config.entropy


def random_words(config: Config, rng: np.random.Generator, count: int):
    """Legal words with their partial inputs, what is on the partial bus after each, and how often what happened."""
    model = PeModel(config)
    seen = Counter()
    #: Slot from which each hold may be read, and what is in it.
    ready = [0] * config.holds
    content = [""] * config.holds
    words, partials, results = [], [], []
    timing, written, limit = Timing(config), -10, 0
    for slot in range(count):
        hold, hold_max = (int(rng.integers(config.holds)) for _ in range(2))
        op = Op(rng.choice(operations(config)))
        if (op is Op.ENT and slot < written + timing.read_distance(Port.SLICE)) or limit:
            op = Op.NOP if limit == 2 else Op.QK
        needed = {Op.EXP: "score", Op.LIN: "score"}.get(op, "weight" if op in WEIGHT_READERS else None)
        if needed:
            fit = [index for index in range(config.holds) if content[index] == needed and ready[index] <= slot]
            if fit:
                hold = int(rng.choice(fit))
            else:
                op = Op(rng.choice([Op.NOP, Op.QK, Op.QK]))
                needed = None
        sig = int(rng.choice([-1, 1]) * rng.integers(128, 256)) if rng.random() < 0.95 else 0
        fields = {"sig": sig, "exponent": int(rng.integers(256)), "operand": int(rng.integers(-(1 << 17), 1 << 17))}
        # Another row must fit: at most what rows - 1 of them leave, or anything below.
        most = (config.rows - 1) << 25 + config.product_align
        value = int(rng.integers(-most, most + 1)) >> int(rng.choice([0, rng.integers(0, config.sum_bits)]))
        partial = Partial(value, *map(bool, rng.integers(2, size=2)), int(rng.integers(TOP_COARSE + 1)))
        if op == Op.QK:
            magnitude = int(rng.integers(1 << 16, 1 << 17)) if rng.random() < 0.95 else 0
            shift = int(rng.choice([rng.integers(-3, 70), rng.integers(0, 40), rng.integers(8, 20)]))
            first = bool(rng.random() < 0.3)
            fields |= {"operand": magnitude * int(rng.choice([-1, 1])), "first": first}
            low = max(-256, shift - 255)
            query_exponent = int(rng.integers(low, max(low + 1, min(shift + 1, 256))))
            fields |= {"query_exponent": query_exponent, "exponent": shift - query_exponent}
            # Now and then a score near the end of LIN's range, in two steps, then MAX.
            if config.linear and (limit or rng.random() < 0.2):
                operand = int(rng.integers(1 << 16, 1 << 17)) if limit else (1 << 17) - 1
                shift = config.product_align - config.linear_shift + (24 if limit else 7)
                fields |= {"operand": operand, "sig": int(rng.choice([-128, 128])), "query_exponent": 0, "exponent": shift}
                fields["first"] = not limit
                limit += 1
            written = slot
        elif op == Op.EXP:
            score, visible = model.holds[hold]
            if config.functions and rng.random() < 0.4:
                fields["first"] = True
                score = score if score < 0 else ~score
            above = int(rng.choice([0, 0, 1, rng.integers(20), rng.integers(60, 70)])) if visible else -int(rng.integers(3))
            if config.linear and rng.random() < 0.1:
                above = -int(rng.integers(1, 70))
                seen["above the reference"] += visible
            reference = -(-score >> config.score_frac_bits) + above
            fields |= {"operand": reference + 1}
            seen["absolute"] += visible and fields.get("first", False)
        elif op == Op.LIN:
            fields |= {"operand": -128, "first": bool(rng.random() < 0.4)}
            score, visible = model.holds[hold]
            weight = linear_weight(config, score, fields["first"])
            seen["LIN too large"] += visible and bool(weight.overflow)
            seen["LIN rounded out of range"] += (
                visible and bool(weight.overflow) and not fields["first"] and (0 <= score >> config.linear_shift < 1 << 17)
            )
            seen["LIN in range"] += visible and not weight.overflow and weight.mantissa != 0
            seen["rectified"] += visible and fields["first"] and score < 0
        elif op in (Op.SET, Op.ADD):
            fields["exponent"] = int(rng.choice([rng.integers(128), rng.integers(40), rng.integers(8, 24)]))
            fields["first"] = op is Op.ADD and bool(rng.random() < 0.5) and slot >= written + timing.read_distance(Port.SIGN)
            if op is Op.ADD:
                seen["clipped"] += fields["first"] and model.score > 0
                seen["ADD at once"] += slot == written + 1
                written = slot
        elif op is Op.ENT:
            fields |= {"sig": 0, "exponent": slice_exponent(config, int(rng.integers(SLICES)))}
            seen["ENT at once"] += slot == written + timing.read_distance(Port.SLICE)
        if op in SUMS:
            partial = near_product(rng, partial, model.holds[hold], ONE_EXPONENT if op == Op.SUM else fields["exponent"], seen)
        fields["max"] = bool(rng.random() < 0.4) and (op == Op.NOP or (op == Op.QK and fields["first"]))
        if limit == 2 and op is Op.NOP:
            fields["max"], limit = True, 0
        if op in (Op.NOP, Op.SUM) and rng.random() < 0.5:
            row = int(rng.integers(config.rows))
            lo, hi = (int(rng.integers(config.rows + 1)) for _ in range(2)) if rng.random() < 0.5 else (row, config.rows)
            fields |= {"mask": True, **rows_seen(config, lo, hi), "exponent": row}
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
        if op in (Op.EXP, Op.LIN, Op.SET):
            written_hold = hold_max if config.linear else hold
            content[written_hold], ready[written_hold] = "score" if op is Op.SET else "weight", slot + config.pe_latency
            seen["masked weight"] += op is not Op.SET and not model.holds[hold][1]
        word = PeWord(op=op, hold=hold, hold_max=hold_max, **fields)
        seen[op.name] += 1
        seen["qk after qk"] += op == Op.QK and not word.first and bool(words) and words[-1].op == Op.QK
        words.append(word)
        partials.append(partial)
        results.append(model.step(word, partial))
    return words, partials, results, seen


def near_product(rng: np.random.Generator, partial: Partial, weight: tuple[int, int], exponent: int, seen: Counter) -> Partial:
    """``partial``, mostly with a coarse exponent near that of the product, and note what that will do."""
    mantissa, weight_exponent = weight
    own = TOP_COARSE - (weight_exponent + exponent >> STEP_LOG2)
    if rng.random() < 0.9:
        partial = partial._replace(coarse=int(np.clip(own + rng.integers(-5, 7), 0, TOP_COARSE)))
    if partial.coarse == NO_COARSE:
        partial = partial._replace(value=0)
    ahead = own - partial.coarse
    if not mantissa:
        seen["no weight"] += 1
        seen["no weight, but ahead"] += ahead > 0
    else:
        seen[f"ahead by {int(np.clip(ahead, -4, 4))}"] += 1
    return partial


def west_of(word: PeWord) -> dict:
    control = {name: getattr(word, name) for name in ("op", "first", "max", "mask", "hold", "hold_max")}
    control |= {"op": Op.SLNV.value, "first": 1} if word.op is Op.ENT else {"op": word.op.value}
    return {"control": control, "sig": word.sig, "exponent": word.exponent}


def north_of(word: PeWord) -> dict:
    operand = word.operand - (1 << 18) if word.operand >= 1 << 17 else word.operand
    return {"operand": operand, "exponent": word.query_exponent}


def check(config: Config, seed: int, count: int = WORDS) -> Counter:
    """Run random words through the PE; every cycle's partial_out, east and south must be the model's."""
    words, partials, results, seen = random_words(config, np.random.default_rng(seed), count)
    rng = np.random.default_rng(seed)
    dut = Pe(config)
    latency, timing = config.pe_latency, Timing(config)
    assert dut.latency == latency
    # What the bus carries behind other words means nothing.
    sums = [word.op in SUMS for word in words]
    counts = [word.max or word.op in (*SUMS, Op.LIN) for word in words]

    async def bench(ctx):
        nop = PeWord()
        for cycle in range(count + latency):
            word = words[cycle] if cycle < count else nop
            ctx.set(dut.west, west_of(word))
            ctx.set(dut.north, north_of(word))
            meets, coarse_meets = cycle - (latency - 1), cycle - timing.coarse_stage
            partial = partials[meets] if 0 <= meets < count else Partial(-1, True, True)
            coarse = partials[coarse_meets].coarse if 0 <= coarse_meets < count else int(rng.integers(TOP_COARSE + 1))
            ctx.set(dut.partial, partial._replace(coarse=coarse)._asdict())
            out = ctx.get(dut.partial_out)
            if cycle >= latency and counts[cycle - latency]:
                expected = results[cycle - latency]
                got = Partial(out.value, bool(out.valid), bool(out.overflow), expected.coarse)
                if sums[cycle - latency]:
                    got, expected = got.value, expected.value
                elif words[cycle - latency].op is Op.LIN:
                    got, expected = got.overflow, expected.overflow
                assert got == expected, (cycle, words[cycle - latency])
            if 0 < coarse_meets <= count and sums[coarse_meets - 1]:
                assert out.coarse == results[coarse_meets - 1].coarse, (cycle, words[coarse_meets - 1])
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
        "no weight", "no weight, but ahead", *(f"ahead by {steps}" for steps in range(-4, 5)),
    ):  # fmt: skip
        assert seen[event] >= 1, (event, seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"score_bits": 26, "score_frac_bits": 10},
        {"score_bits": 34, "score_frac_bits": 20},
        {"score_bits": 30, "score_frac_bits": 18},
        {"rows": 256, "contexts": 9},
    ],
)
def test_other_formats(changes):
    check(config_for(**changes), seed=3)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: "-".join(option))
@pytest.mark.parametrize("pe_latency", [2, 3, 4, 5])
def test_options(pe_latency, option):
    config = config_for(pe_latency=pe_latency, contexts=3, **option)
    seen = check(config, seed=10 * pe_latency, count=2 * WORDS)
    events = ["masked weight", "no weight, but ahead", "max taken"]
    if config.linear:
        events += ["LIN too large", "LIN rounded out of range", "LIN in range", "rectified", "above the reference"]
    if config.functions:
        events += ["absolute", "clipped", "ADD at once", "SET at once"]
    if config.entropy:
        events += ["ENT at once"]
    for event in events:
        assert seen[event] >= 1, (event, seen)


@pytest.mark.parametrize(
    "changes",
    [
        {"score_bits": 26, "score_frac_bits": 10},
        {"score_bits": 34, "score_frac_bits": 20},
        {"score_bits": 26, "score_frac_bits": 16},
        {"rows": 256, "contexts": 9},
    ],
)
def test_options_in_other_formats(changes):
    check(config_for(**{"contexts": 3} | changes, functions=True, entropy=True), seed=4, count=2 * WORDS)

"""The feeders: what they put on the buses, what they hand on, what they load."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.arith import bf16
from fusemax.spec import CONFIGS, Config
from fusemax_hw.array.north_feeder import NorthFeeder
from fusemax_hw.array.west_feeder import WestFeeder
from fusemax_hw.words import NorthSource, OpCode, north_bus

CONFIG = replace(CONFIGS["tiny"], max_e=8, max_f=8, contexts=4)
CYCLES = 600


def simulate(dut, bench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def random_element(rng) -> int:
    bits = int(rng.integers(1 << 16))
    return bits & 0x807F if rng.random() < 0.2 else bits


def pack(parts, bits: int) -> int:
    return sum((part & (1 << bits) - 1) << bits * index for index, part in enumerate(parts))


@pytest.mark.parametrize("option", [{}, {"linear": True}, {"functions": True}])
def test_west_feeder(option):
    rng = np.random.default_rng(1)
    dut = WestFeeder(replace(CONFIG, **option))
    constants = bool(option.get("functions"))
    bank = [0] * dut.depth
    loaded = set()
    expected, seen = [], set()

    async def bench(ctx):
        last_word = last_load = None
        for _ in range(CYCLES):
            # A word of this cycle sees what was loaded before, the cycle before included; never this cycle's load.
            beat = int(rng.choice(sorted(loaded))) if loaded else 0
            load = {
                "valid": int(rng.random() < 0.5),
                "skip": int(rng.choice([0, 0, 1, 255])),
                "beat": int(rng.integers(dut.depth)),
            }
            load["payload"] = pack([random_element(rng) for _ in range(CONFIG.beat_elements)], 16)
            if last_load and last_load["valid"] and not last_load["skip"] and rng.random() < 0.5:
                beat = last_load["beat"]
                seen.add("just loaded")
            if load["beat"] == beat:
                load["valid"] = 0
            op = OpCode(rng.choice([op.value for op in OpCode]))
            if not loaded and op in (OpCode.QK, OpCode.SLNV):
                op = OpCode.NOP
            control = {"op": op.value, "first": int(rng.integers(2)), "max": int(rng.integers(2)), "hold": 2, "hold_max": 1}
            control["mask"] = int(op not in (OpCode.QK, OpCode.SLNV))
            element, row = int(rng.integers(CONFIG.beat_elements)), int(rng.integers(256))
            row = row if rng.random() < 0.5 else int(rng.integers(CONFIG.rows))
            keys = int(rng.integers(CONFIG.rows + 1))
            bias = int(op is OpCode.QK and rng.random() < 0.3)
            word = {"control": control, "beat": beat, "element": element, "row": row, "keys": keys, "bias": bias}
            if constants:
                sig, shift = int(rng.integers(-256, 256)), int(rng.integers(256))
                word |= {"constant": int(rng.random() < 0.3), "sig": sig, "exponent": shift}
            ctx.set(dut.word, word)
            ctx.set(dut.load, load)

            if last_word:
                out = ctx.get(dut.word_out)
                assert out.row == (last_word["row"] + 1) % 256
                names = ("beat", "element", "keys", "bias")
                assert tuple(out[name] for name in names) == tuple(last_word[name] for name in names)
                if constants:
                    assert [out[name] for name in ("constant", "sig", "exponent")] == [
                        last_word[name] for name in ("constant", "sig", "exponent")
                    ]
                for name, value in last_word["control"].items():
                    got = out.control[name]
                    assert (got.value if name == "op" else got) == value
                passed = ctx.get(dut.load_out)
                assert passed.valid == (last_load["valid"] and last_load["skip"] > 0)
                if passed.valid:
                    assert (passed.skip, passed.beat, passed.payload) == (
                        last_load["skip"] - 1,
                        last_load["beat"],
                        last_load["payload"],
                    )
            if len(expected) >= dut.latency:
                want_control, want_sig, want_exponent = expected[-dut.latency]
                bus = ctx.get(dut.bus)
                assert bus.control.op.value == want_control["op"]
                assert bus.control.hold == 2
                assert bus.exponent == want_exponent or want_exponent is None
                assert bus.sig == want_sig or want_sig is None

            bits = bank[beat] >> 16 * element & 0xFFFF if row < keys else 0
            if bias:
                bits = 0x3F80 if row == keys else 0
                seen.add(("bias", row == keys))
            sig, exponent = (int(part) for part in bf16.unpack(bits))
            if word.get("constant"):
                expected.append((control, word["sig"], word["exponent"]))
            elif op in (OpCode.QK, OpCode.SLNV):
                expected.append((control, sig, 255 - exponent))
            else:
                expected.append((control, None, row))
            seen.add((op, sig == 0))
            seen.add(("row", row >= keys))
            if load["valid"] and load["skip"] == 0:
                bank[load["beat"]] = load["payload"]
                loaded.add(load["beat"])
            last_word, last_load = word, load
            await ctx.tick()

    simulate(dut, bench)
    assert {
        "just loaded",
        ("bias", True),
        ("bias", False),
        ("row", True),
        ("row", False),
        (OpCode.QK, True),
        (OpCode.QK, False),
        (OpCode.SLNV, True),
        (OpCode.SLNV, False),
    } <= seen


def seen_rows(config, lo, hi, bits, element):
    """What the bus says: a bit per row, or for many rows the interval."""
    if config.rows > 27:
        return hi << 9 | lo, None
    operand, exponent = element
    given = operand & 0x3FFFF | (exponent & 0x1FF) << 18
    seen = sum(1 << row for row in range(config.rows) if lo <= row < hi and (not bits or given >> row & 1))
    return seen & 0x3FFFF, (seen >> 18) - (seen >> 26 << 9)


@pytest.mark.parametrize("changes", [{}, {"contexts": 2}, {"rows": 27}, {"rows": 256}, {"linear": True}])
def test_north_feeder(changes):
    config = replace(CONFIG, **changes)
    rng = np.random.default_rng(2)
    dut = NorthFeeder(config)
    element_bits = north_bus(config).size
    bank = [[(0, 0)] * config.beat_elements for _ in range(config.query_bank_words)]
    ring = [-1] * config.holds
    expected, seen = [], set()

    async def bench(ctx):
        last_word = last_load = awaited = None
        for cycle in range(CYCLES):
            beat, hold = int(rng.integers(len(bank))), int(rng.integers(config.holds))
            elements = [
                (int(rng.integers(-(1 << 17), 1 << 17)), int(rng.integers(-256, 256))) for _ in range(config.beat_elements)
            ]
            payload = pack([(exponent & 0x1FF) << 18 | operand & 0x3FFFF for operand, exponent in elements], element_bits)
            load = {"valid": int(rng.random() < 0.5), "skip": int(rng.choice([0, 1])), "beat": int(rng.integers(len(bank)))}
            load["payload"] = payload
            if last_load and last_load["valid"] and not last_load["skip"]:
                beat = last_load["beat"]
            if load["beat"] == beat:
                load["valid"] = 0
            reference = {"valid": int(rng.random() < 0.4), "hold": int(rng.integers(config.holds))}
            reference["reference"] = int(rng.integers(-(1 << config.reference_bits - 1), 1 << config.reference_bits - 1))
            source = NorthSource(rng.choice([source.value for source in list(NorthSource)[: 4 if config.linear else 3]]))
            word = {"source": source.value, "hold": hold, "beat": beat, "element": int(rng.integers(config.beat_elements))}
            keys = int(rng.integers(512 if source == NorthSource.CONSTANT else config.rows + 1))
            word |= {"keys": keys, "queries": int(rng.choice([0, 1, rng.integers(257)]))}
            share = int(rng.integers(256))
            word |= {"share": share, "phase": int(rng.choice([share, rng.integers(share + 1)]))}
            word |= {name: int(rng.choice([-512, 511, rng.integers(-8, config.rows + 8)])) for name in ("lo", "hi")}
            word["bits"] = int(rng.integers(2))
            ctx.set(dut.word, word)
            ctx.set(dut.load, load)
            ctx.set(dut.reference_in, reference)

            if last_word:
                out = ctx.get(dut.word_out)
                assert out.queries == max(last_word["queries"] - 1, 0)
                ends = last_word["phase"] == last_word["share"]
                assert (out.share, out.phase) == (last_word["share"], 0 if ends else last_word["phase"] + 1)
                assert (out.lo, out.hi) == (last_word["lo"] + ends, last_word["hi"] + ends)
                names = ("hold", "beat", "element", "keys", "bits")
                assert tuple(out[name] for name in names) == tuple(last_word[name] for name in names)
                assert out.source.value == last_word["source"]
                passed = ctx.get(dut.load_out)
                assert passed.valid == (last_load["valid"] and last_load["skip"] > 0)
                if passed.valid:
                    assert (passed.skip, passed.beat, passed.payload) == (
                        last_load["skip"] - 1,
                        last_load["beat"],
                        last_load["payload"],
                    )
            if cycle >= dut.latency:
                bus = ctx.get(dut.bus)
                operand, exponent = expected[-dut.latency]
                assert bus.operand & 0x3FFFF == operand & 0x3FFFF
                assert exponent is None or bus.exponent == exponent

            # References of this cycle are there for the word of the cycle before.
            if reference["valid"]:
                ring[reference["hold"]] = reference["reference"]
                seen.add("just in time" if awaited == reference["hold"] else "")
            if awaited is not None:
                expected[-1] = (ring[awaited] + 1, None)
            awaited = hold if source == NorthSource.REFERENCE else None
            if source == NorthSource.QUERY:
                expected.append(bank[beat][word["element"]])
            elif source == NorthSource.REFERENCE:
                expected.append(None)
            elif source == NorthSource.CONSTANT:
                expected.append((word["keys"] - 512 if word["keys"] > 255 else word["keys"], None))
            else:
                lo = min(max(word["lo"], 0), config.rows)
                hi = min(max(word["hi"], 0), word["keys"]) if word["queries"] else 0
                expected.append(seen_rows(config, lo, hi, word["bits"], bank[beat][word["element"]]))
            if load["valid"] and load["skip"] == 0:
                bank[load["beat"]] = elements
            last_word, last_load = word, load
            await ctx.tick()

    simulate(dut, bench)
    assert "just in time" in seen


def test_references_must_fit_the_operand():
    with pytest.raises(ValueError, match=r"score_bits - score_frac_bits must be at most 16, so that .* not 24"):
        NorthFeeder(Config(rows=4, columns=4, score_bits=34, score_frac_bits=10))

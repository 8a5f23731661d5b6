import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.arith.reference import update_reference
from fusemax.spec import CONFIGS, Config, Timing
from fusemax_hw.lane.reference import RunningReference


@pytest.mark.parametrize(
    "config",
    [CONFIGS["tiny"], Config(rows=4, columns=4, score_bits=26, score_frac_bits=16, contexts=2, query_tiles=1)],
    ids=["tiny", "narrow"],
)
def test_like_the_model(config):
    """Scores of all sizes, at the smallest distance of words with the same address."""
    rng = np.random.default_rng(config.score_bits)
    unit = RunningReference(config)
    top, frac_bits = 1 << config.score_bits - 1, config.score_frac_bits
    count, tick = 6000, unit.latency + 1
    edges = [-top, top - 1, 0, 1, -1, 1 << frac_bits, (1 << frac_bits) + 1, -1 << frac_bits, (-1 << frac_bits) + 1]
    near = rng.integers(-300 << frac_bits, 300 << frac_bits, count)
    score = np.select(
        [(kind := rng.integers(0, 4, count)) == 0, kind == 1, kind == 2],
        [rng.integers(-top, top, count), rng.choice(edges, count), near],
        near >> frac_bits << frac_bits,
    )
    score = np.clip(score, -top, top - 1)
    valid = rng.random(count) < 0.6
    first = rng.random(count) < 0.15
    hold = rng.integers(0, config.holds, count)
    used = rng.random(count) < 0.9
    # One address as often as may be; others in between.
    group, step = np.divmod(np.arange(count), tick)
    address = np.where(step == 0, 0, step + tick * (group % (config.reference_words // tick)))

    memory: dict[int, tuple[int, bool]] = {}
    distances = [0] * config.holds
    kinds = set()

    async def testbench(ctx):
        expected: list = [None] * 3
        for cycle in range(count):
            ctx.set(
                unit.word,
                {
                    "max": int(used[cycle]),
                    "first_max": int(first[cycle]) if int(address[cycle]) in memory else 1,
                    "hold_max": int(hold[cycle]),
                    "reference": int(address[cycle]),
                },
            )
            ctx.set(unit.partial, {"value": ~int(score[cycle]), "valid": int(valid[cycle])})
            now = None
            if used[cycle]:
                old, old_valid = (0, False) if first[cycle] else memory.get(int(address[cycle]), (0, False))
                new = update_reference(config, old, old_valid, score[cycle], valid[cycle])
                memory[int(address[cycle])] = int(new.reference), bool(new.valid)
                now = int(hold[cycle]), int(new.reference), bool(new.valid), int(new.distance)
                kinds.add(min(int(new.distance), 255) // 64)
            expected = [now, *expected[:3]]

            got = ctx.get(unit.reference)
            assert got.valid == (expected[2] is not None)
            if expected[2]:
                assert got.hold == expected[2][0]
                assert not expected[2][2] or got.reference == expected[2][1]
            if len(expected) > 3 and expected[3]:
                distances[expected[3][0]] = expected[3][3]
                assert [ctx.get(unit.distances[i]) for i in range(config.holds)] == distances
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert kinds == {0, 1, 2, 3}


def test_latency_is_the_timetable_s():
    assert RunningReference.latency == Timing(CONFIGS["small"]).reference

import numpy as np
import pytest
from amaranth.sim import Simulator

from fusemax.spec import Config
from fusemax_hw.lane.output_buffer import OutputBuffer


@pytest.mark.parametrize("bus_bits", [32, 256, 1024])
def test_words_of_rows(bus_bits):
    """Rows of both formats, whole and partial words, back to back; every word is requested as early as it may be."""
    config = Config(rows=4, columns=4, max_f=90, bus_bits=bus_bits)
    unit = OutputBuffer(config)
    rng = np.random.default_rng(bus_bits)
    results, answers = [], {}
    address = 0
    for row in range(24):
        float32 = row % 3 == 0
        size = 32 if float32 else 16
        per_word = bus_bits // size
        count = int(rng.integers(1, 91))
        values = [int(value) for value in rng.integers(0, 1 << size, count)]
        if bus_bits >= 64 and rng.random() < 0.5:
            reference, value = int(rng.integers(-500, 500)), int(rng.integers(1 << 32))
            answers[len(results) + unit.latency] = address, value << 32 | reference & 0xFFFFFFFF
            state = {"valid": 1, "bits": value, "state": 1, "reference": reference, "write": 1, "output": address}
            results.append(state | {"float32_out": int(float32), "element": int(rng.integers(per_word))})
            address = (address + 1) % config.output_beats
        for f, value in enumerate(values):
            while rng.random() < 0.2:
                results.append({"valid": 0, "bits": 1, "write": 1})
            write = f == count - 1 or f % per_word == per_word - 1
            if write:
                begin = f - f % per_word
                word = sum(value << size * i for i, value in enumerate(values[begin : f + 1]))
                answers[len(results) + unit.latency] = address, word
            results.append(
                {
                    "valid": 1,
                    "bits": value,
                    "float32_out": int(float32),
                    "element": f % per_word,
                    "write": int(write),
                    "output": address,
                }
            )
            if write:
                address = (address + 1) % config.output_beats

    async def testbench(ctx):
        for cycle in range(len(results) + unit.latency + 1):
            ctx.set(unit.result, results[cycle] if cycle < len(results) else {"valid": 0})
            if cycle - 1 in answers:
                assert ctx.get(unit.store_out.done) == 1
                assert ctx.get(unit.store_out.payload) == answers[cycle - 1][1]
            if cycle in answers:
                ctx.set(unit.store, {"valid": 1, "output": answers[cycle][0]})
            else:
                ctx.set(unit.store, {"valid": 0, "skip": 5})
            await ctx.tick()

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()
    assert len(answers) >= 24

"""Serial line: bytes there and back, rates that differ, spikes, missing stop bits."""

import random
from itertools import pairwise

import pytest
from amaranth.sim import Simulator

from fusemax_hw.bridge.uart import UartReceiver, UartTransmitter, divisor


def simulate(dut, testbench):
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(testbench)
    simulator.run()


def receive(levels, cycles):
    """What a receiver of ``cycles`` per bit makes of these levels, one per cycle: (byte, error)."""
    dut = UartReceiver(cycles)
    found = []

    async def testbench(ctx):
        for level in [*levels, *[1] * (12 * cycles)]:
            ctx.set(dut.rx, level)
            if ctx.get(dut.valid):
                found.append((ctx.get(dut.data), ctx.get(dut.error)))
            await ctx.tick()

    simulate(dut, testbench)
    return found


def levels_of(text, bit_cycles, gaps=(0,), rng=None):
    """Levels of a line, one per cycle; ``bit_cycles`` need not be an integer."""
    levels, place = [], 0.0
    for byte in text:
        for bit in (0, *(byte >> index & 1 for index in range(8)), 1):
            place += bit_cycles
            levels += [bit] * (round(place) - len(levels))
        gap = rng.choice(gaps) if rng else 0
        place += gap
        levels += [1] * (round(place) - len(levels))
    return levels


@pytest.mark.parametrize("cycles", [4, 5, 7, 16, 21])
def test_transmitted_bytes_are_received(cycles):
    rng = random.Random(cycles)
    text = [0x00, 0xFF, 0x55, 0xAA, *rng.randbytes(12)]
    dut = UartTransmitter(cycles)
    levels, taken = [], []

    async def testbench(ctx):
        cycle, valid = 0, False
        while len(taken) < len(text) or cycle < taken[-1] + 12 * cycles:
            valid = len(taken) < len(text) and (valid or len(taken) < 8 or rng.random() < 0.02)
            if valid:
                ctx.set(dut.bytes.payload, text[len(taken)])
            ctx.set(dut.bytes.valid, valid)
            levels.append(ctx.get(dut.tx))
            if valid and ctx.get(dut.bytes.ready):
                taken.append(cycle)
                valid = False
            cycle += 1
            await ctx.tick()

    simulate(dut, testbench)
    assert receive(levels, cycles) == [(byte, 0) for byte in text]
    # No pause while there is something to send.
    assert all(after - before == 10 * cycles for before, after in pairwise(taken[:8]))


@pytest.mark.parametrize(("cycles", "error"), [(4, -0.02), (4, 0.02), (8, -0.03), (8, 0.03), (20, -0.04), (20, 0.04)])
def test_the_other_side_may_be_quicker_or_slower(cycles, error):
    rng = random.Random(cycles)
    text = [0x00, 0xFF, 0x01, 0x80, *rng.randbytes(20)]
    levels = levels_of(text, cycles * (1 + error), gaps=(0, 0, 1, 3, 50), rng=rng)
    assert receive(levels, cycles) == [(byte, 0) for byte in text]


def test_spikes_and_breaks():
    cycles = 16
    spike = [1] * 20 + [0] * 5 + [1] * 20
    assert receive(spike + levels_of(b"\x12", cycles), cycles) == [(0x12, 0)]
    # A line that is held low is one byte without a stop bit, however long it lasts.
    broken = [0] * (40 * cycles) + [1] * 20
    assert receive(broken + levels_of(b"\x34", cycles), cycles) == [(0, 1), (0x34, 0)]


def test_divisor():
    assert divisor(60e6, 3e6) == 20
    assert divisor(25e6, 115200) == 217
    assert divisor(12e6, 3e6) == 4
    with pytest.raises(ValueError, match="baud must be at most a quarter of the clock, 2500000, not 3000000"):
        divisor(10e6, 3_000_000)
    with pytest.raises(ValueError, match="baud must be within 2 % of 13500000 Hz over an integer, not 3000000"):
        divisor(13.5e6, 3_000_000)
    with pytest.raises(ValueError, match="baud must be at least the clock over 65536, 916, not 300"):
        divisor(60e6, 300)
    for value, error, message in ((3, ValueError, "divisor must be from 4 to 65536, not 3"), (4.0, TypeError, "not 4.0")):
        with pytest.raises(error, match=message):
            UartReceiver(value)
        with pytest.raises(error, match=message):
            UartTransmitter(value)

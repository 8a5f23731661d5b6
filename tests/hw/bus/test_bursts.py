"""Runs cut into bursts, compared with a cut word by word."""

from itertools import accumulate

import pytest
from bench import Bench

from fusemax.spec import Config
from fusemax_hw.bus.bursts import BurstSplitter

BUS_WIDTHS = (32, 64, 128, 256, 512, 1024)
TAG_BITS = 5


def cut(config, run):
    """Bursts of a run: a new one begins at a page and behind 256 words."""
    bursts = []
    for word in range(run["beats"]):
        address = run["address"] + word * config.bus_bytes
        if not bursts or address % 4096 == 0 or bursts[-1]["length"] == 255:
            bursts.append({"address": address, "length": -1, "start": word, "last": 0, "tag": run["tag"]})
        bursts[-1]["length"] += 1
    bursts[-1]["last"] = 1
    return bursts


def random_run(rng, config):
    word_bytes = config.bus_bytes
    address = rng.randrange(1 << config.address_bits - 12) << 12
    offset = rng.choice((0, 4096 - word_bytes, rng.randrange(4096 // word_bytes) * word_bytes))
    beats = rng.choice((1, 2, 255, 256, 257, 511, rng.randint(1, 20), rng.randint(1, 511)))
    most = ((1 << config.address_bits) - address - offset) // word_bytes
    return {"address": address + offset, "beats": min(beats, most), "tag": rng.getrandbits(TAG_BITS)}


@pytest.mark.parametrize("bus_bits", BUS_WIDTHS)
def test_bursts(bus_bits):
    config = Config(rows=2, columns=2, bus_bits=bus_bits)
    bench = Bench(BurstSplitter(config, TAG_BITS), seed=bus_bits)
    runs = [random_run(bench.rng, config) for _ in range(100)]
    expected = [burst for run in runs for burst in cut(config, run)]
    bench.source(bench.dut.runs, runs, bench.stalls())
    bursts = bench.sink(bench.dut.bursts, bench.stalls())
    bench.run(lambda: len(bursts.received) >= len(expected), 30 * len(expected), settle=20)
    assert bursts.received == expected


def test_the_next_burst_of_a_run_comes_two_cycles_later():
    config = Config(rows=2, columns=2, bus_bits=1024)
    bench = Bench(BurstSplitter(config, TAG_BITS), seed=1)
    runs = [random_run(bench.rng, config) for _ in range(30)]
    expected = [burst for run in runs for burst in cut(config, run)]
    bench.source(bench.dut.runs, runs)
    bursts = bench.sink(bench.dut.bursts)
    bench.run(lambda: len(bursts.received) == len(expected), 10 * len(expected))
    assert bursts.received == expected
    due = accumulate((1 if one["last"] else 2 for one in expected[:-1]), initial=1)
    assert bursts.taken == list(due)

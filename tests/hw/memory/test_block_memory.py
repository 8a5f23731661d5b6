"""Block memory against a model: two masters, random bursts, strobes and stalls."""

import pytest
from bench import Bench

from fusemax.spec import Config
from fusemax_hw.memory.block_memory import BlockMemory

SIZE_BYTES = 8192
SLOT_WORDS = 32


class Master:
    """Writes to slots of its own and reads each one back; some bursts lie behind the memory."""

    def __init__(self, bench, config, port, slots, paces):
        self.bench, self.config = bench, config
        rng, bus = bench.rng, config.bus_bytes
        self.bursts, words = [], []
        for slot in slots:
            count = rng.choice((1, 2, SLOT_WORDS, rng.randint(1, SLOT_WORDS)))
            address = slot * SLOT_WORDS * bus
            beats = [{"data": rng.getrandbits(8 * bus), "strobe": rng.getrandbits(bus), "last": 0} for _ in range(count)]
            beats[-1]["last"] = 1
            words += beats
            self.bursts.append((address, beats))
        stalls = [bench.stalls(*paces) for _ in range(5)]
        bench.source(port.aw, [self.burst(index) for index in range(len(self.bursts))], stalls[0])
        bench.source(port.w, words, stalls[1])
        self.ar = bench.source(port.ar, (), stalls[2])
        bench.sink(port.b, stalls[3], self.answered)
        self.r = bench.sink(port.r, stalls[4])
        self.answers = []

    def burst(self, index):
        address, beats = self.bursts[index]
        return {"address": address, "length": len(beats) - 1}

    def answered(self, response):
        self.ar.items.append(self.burst(len(self.answers)))
        self.answers.append(response)

    def check(self):
        received = iter(self.r.received)
        for (address, beats), response in zip(self.bursts, self.answers, strict=True):
            outside = address >= SIZE_BYTES
            assert response == (3 if outside else 0)
            for beat in beats:
                word = next(received)
                assert word["last"] == beat["last"]
                assert word["response"] == (3 if outside else 0)
                bytes_kept = sum(0xFF << 8 * lane for lane in range(self.config.bus_bytes) if beat["strobe"] >> lane & 1)
                assert outside or word["data"] == beat["data"] & bytes_kept
        assert next(received, None) is None


@pytest.mark.parametrize(("bus_bits", "paces"), [(32, (1.0,)), (64, ()), (128, (0.3, 1.0))])
def test_masters_read_what_they_have_written(bus_bits, paces):
    config = Config(rows=2, columns=2, bus_bits=bus_bits)
    memory = BlockMemory(config, SIZE_BYTES)
    bench = Bench(memory, seed=bus_bits)
    slots = SIZE_BYTES // config.bus_bytes // SLOT_WORDS
    order = bench.rng.sample(range(slots + 4), slots + 4)
    masters = [Master(bench, config, memory.ports[index], order[index::2], paces) for index in range(2)]
    total = [sum(len(beats) for _, beats in master.bursts) for master in masters]
    bench.run(lambda: [len(master.r.received) for master in masters] == total, 60_000, settle=20)
    for master in masters:
        master.check()


def test_a_burst_takes_a_word_per_cycle():
    config = Config(rows=2, columns=2)
    memory = BlockMemory(config, SIZE_BYTES)
    bench = Bench(memory, seed=1)
    port = memory.ports[1]
    bench.source(port.ar, [{"address": 0, "length": 15}] * 2)
    read = bench.sink(port.r)
    bench.source(port.aw, [{"address": 0, "length": 15}])
    words = bench.source(port.w, [{"data": 1, "strobe": 255, "last": index == 15} for index in range(16)])
    bench.run(lambda: len(read.taken) == 32, 100)
    assert [cycle - read.taken[0] for cycle in read.taken[:16]] == list(range(16))
    assert read.taken[0] == 3
    assert read.taken[16] - read.taken[15] <= 5
    assert [cycle - words.taken[0] for cycle in words.taken] == list(range(16))


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (4096.0, TypeError, "memory_bytes must be an integer, not 4096.0"),
        (0, ValueError, r"memory_bytes must be a multiple of 4096 from 4096 to 2\^40, not 0"),
        (6144, ValueError, "memory_bytes must be a multiple of 4096"),
        (1 << 41, ValueError, "memory_bytes must be a multiple of 4096"),
    ],
)
def test_wrong_sizes(size, error, message):
    with pytest.raises(error, match=message):
        BlockMemory(Config(rows=2, columns=2), size)

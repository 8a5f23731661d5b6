"""Reader against a memory that answers late, in spells, and sometimes with an error."""

from collections import deque

import pytest
from bench import Bench, unpack

from fusemax.spec import Config
from fusemax_hw.bus.reader import Reader, beat_layout

TAG_BITS = 7


class Memory:
    """Answers bursts in order, at least ``latency`` cycles after their address."""

    def __init__(self, bench, config, ar_go, r_go, latency=lambda: 1, response=lambda: 0):
        self.bench, self.config, self.latency, self.response = bench, config, latency, response
        self.words = []
        self.under_way = self.most_under_way = 0
        self._later = deque()
        bench.sink(bench.dut.ar, ar_go, self._accept)
        self.r = bench.source(bench.dut.r, (), r_go)
        bench.watch(bench.dut.r.ready, self._answered)
        bench.each(self._answer)

    def _accept(self, burst):
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        assert burst["address"] % 4096 + (burst["length"] + 1) * self.config.bus_bytes <= 4096
        due = self.bench.cycle + self.latency()
        for index in range(burst["length"] + 1):
            word = {
                "data": self.bench.rng.getrandbits(self.config.bus_bits),
                "response": self.response(),
                "last": index == burst["length"],
            }
            self.words.append((burst["address"], burst["address"] + index * self.config.bus_bytes, word))
            self._later.append((due, word))

    def _answer(self):
        while self._later and self._later[0][0] <= self.bench.cycle:
            self.r.items.append(self._later.popleft()[1])

    def _answered(self, _):
        if self.r.taken and self.r.taken[-1] == self.bench.cycle:
            self.answered = getattr(self, "answered", 0) + 1
            self.under_way -= self.words[self.answered - 1][2]["last"]


def beats_of(bench, config):
    """Words as they come out: (cycle, fields, error address)."""
    layout, beats = beat_layout(config, TAG_BITS), []
    now = {}
    bench.watch(bench.dut.beat_valid, lambda value: now.update(valid=value))
    bench.watch(bench.dut.error_address, lambda value: now.update(address=value))
    bench.watch(
        bench.dut.beat,
        lambda value: beats.append((bench.cycle, unpack(layout, value), now["address"])) if now["valid"] else None,
    )
    return beats


def random_runs(rng, config, count, most):
    runs = []
    for _ in range(count):
        page = rng.randrange(1, 1 << config.address_bits - 12) << 12
        offset = rng.randrange(4096 // config.bus_bytes) * config.bus_bytes
        runs.append(
            {"address": page - offset, "beats": rng.choice((1, 1, 2, rng.randint(1, most))), "tag": rng.getrandbits(TAG_BITS)}
        )
    return runs


@pytest.mark.parametrize(("bus_bits", "outstanding"), [(32, 1), (64, 2), (256, 3), (1024, 16)])
def test_reads(bus_bits, outstanding):
    config = Config(rows=2, columns=2, bus_bits=bus_bits, outstanding_reads=outstanding)
    bench = Bench(Reader(config, TAG_BITS), seed=outstanding)
    rng = bench.rng
    runs = random_runs(rng, config, 150, 40)
    bench.source(bench.dut.runs, runs, bench.stalls())
    memory = Memory(
        bench,
        config,
        bench.stalls(),
        bench.stalls(0.0, 0.2, 1.0),
        latency=lambda: rng.randint(1, 30),
        response=lambda: rng.choice((0, 0, 0, 1, 2, 3)),
    )
    beats = beats_of(bench, config)
    idle = []
    bench.watch(bench.dut.idle, idle.append)
    total = sum(run["beats"] for run in runs)
    bench.run(lambda: len(beats) >= total, 50 * total, settle=20)

    expected = [(run, index) for run in runs for index in range(run["beats"])]
    assert len(beats) == total == len(memory.words)
    for (_, beat, error_address), (run, index), (_, address, word) in zip(beats, expected, memory.words, strict=True):
        assert address == run["address"] + index * config.bus_bytes
        assert beat == {
            "data": word["data"],
            "index": index,
            "last": index == run["beats"] - 1,
            "error": word["response"] >= 2,
            "tag": run["tag"],
        }
        assert error_address == address
    assert memory.most_under_way == outstanding
    assert idle[-1] and memory.under_way == 0


@pytest.mark.parametrize("most", [1, 8])
def test_a_word_every_cycle(most):
    """The bursts under way hide the memory's latency, even if each is a single word."""
    config = Config(rows=2, columns=2, outstanding_reads=16)
    bench = Bench(Reader(config, TAG_BITS), seed=most)
    runs = random_runs(bench.rng, config, 60, most)
    bench.source(bench.dut.runs, runs)
    Memory(bench, config, bench.stalls(1.0), bench.stalls(1.0), latency=lambda: 8)
    beats = beats_of(bench, config)
    total = sum(run["beats"] for run in runs)
    bench.run(lambda: len(beats) == total, 10 * total)
    cycles = [cycle for cycle, _, _ in beats]
    assert cycles == list(range(cycles[0], cycles[0] + total))


@pytest.mark.parametrize("seed", range(6))
def test_drain(seed):
    """Bursts that were offered are read to their end; no other is begun."""
    config = Config(rows=2, columns=2, outstanding_reads=4)
    bench = Bench(Reader(config, TAG_BITS), seed)
    rng = bench.rng
    bench.source(bench.dut.runs, random_runs(rng, config, 100, 20))
    memory = Memory(bench, config, bench.stalls(0.05, 0.3), bench.stalls(0.2, 1.0), latency=lambda: rng.randint(1, 30))
    beats = beats_of(bench, config)
    start = rng.randint(5, 200)
    bench.drive(bench.dut.drain, lambda: bench.cycle >= start)
    idle, offers = [], []
    bench.watch(bench.dut.idle, idle.append)
    bench.watch(bench.dut.ar.valid, offers.append)
    bench.run(lambda: bench.cycle > start and idle[-1], 3000, settle=100)
    # An offer of the cycle before may stay until it is taken.
    later = offers[start:]
    assert later == sorted(later, reverse=True)
    assert bool(later[0]) <= bool(offers[start - 1])
    first_idle = start + idle[start:].index(1)
    assert all(idle[first_idle:]) and memory.under_way == 0
    assert len(beats) == len(memory.words) > 0


@pytest.mark.parametrize("seed", range(4))
def test_window(seed):
    """Bursts that would leave the window are not begun, each is told, and those behind it are read."""
    config = Config(rows=2, columns=2)
    bench = Bench(Reader(config, TAG_BITS), seed)
    rng = bench.rng
    middle = rng.randrange(1 << 20, 1 << 30) // 8 * 8
    runs = [
        {"address": middle + 8 * rng.randint(-40, 40), "beats": rng.randint(1, 20), "tag": rng.getrandbits(TAG_BITS)}
        for _ in range(200)
    ]
    first, last = middle - 8 * rng.randint(10, 30) + rng.randrange(8), middle + 8 * rng.randint(10, 30) + rng.randrange(8)
    bench.drive(bench.dut.first, lambda: first)
    bench.drive(bench.dut.last, lambda: last)
    bench.source(bench.dut.runs, runs, bench.stalls())
    memory = Memory(bench, config, bench.stalls(), bench.stalls(0.2, 1.0), latency=lambda: rng.randint(1, 30))
    beats = beats_of(bench, config)
    now, refused = {}, []
    for name in ("refused_tag", "refused_address", "refused"):
        bench.watch(getattr(bench.dut, name), lambda value, name=name: now.update({name: value}))
    bench.watch(
        bench.dut.refused, lambda value: refused.append((now["refused_address"], now["refused_tag"])) if value else None
    )

    bursts = []
    for run in runs:
        to_page = (4096 - run["address"] % 4096) // 8
        parts = [(run["address"], min(run["beats"], to_page))]
        if run["beats"] > to_page:
            parts.append((run["address"] + 8 * to_page, run["beats"] - to_page))
        bursts += [(address, length, run["tag"]) for address, length in parts]
    inside = [first // 8 <= address // 8 and address // 8 + length - 1 <= last // 8 for address, length, _ in bursts]
    total = sum(length for (_, length, _), good in zip(bursts, inside, strict=True) if good)
    assert 20 < sum(inside) < len(bursts) - 20
    bench.run(lambda: len(beats) >= total and len(refused) + sum(inside) >= len(bursts), 50000, settle=50)
    assert refused == [(address, tag) for (address, _, tag), good in zip(bursts, inside, strict=True) if not good]
    expected = [
        (address + 8 * index, tag)
        for (address, length, tag), good in zip(bursts, inside, strict=True)
        if good
        for index in range(length)
    ]
    assert [(address, beat["tag"]) for _, beat, address in beats] == expected
    assert len(memory.words) == total


def test_a_burst_that_is_not_taken_waits():
    """Also when none is under way: a memory that takes no address does not answer."""
    config = Config(rows=2, columns=2)
    bench = Bench(Reader(config, TAG_BITS), 1)
    bench.source(bench.dut.runs, [{"address": 0x4000, "beats": 2, "tag": 3}])
    bench.sink(bench.dut.ar, lambda: False)
    waiting, addresses, idle = [], [], []
    bench.watch(bench.dut.waiting, waiting.append)
    bench.watch(bench.dut.waiting_address, addresses.append)
    bench.watch(bench.dut.idle, idle.append)
    bench.run(lambda: bench.cycle == 40, 50)
    assert all(waiting[20:]) and set(addresses[20:]) == {0x4000} and not any(idle[20:])


def test_waiting_address():
    """The oldest burst that is not complete, whether its address was taken or not."""
    config = Config(rows=2, columns=2)
    bench = Bench(Reader(config, TAG_BITS), seed=9)
    runs = [{"address": 0x1000 * number, "beats": 2, "tag": 0} for number in range(1, 4)]
    bench.source(bench.dut.runs, runs)
    bench.drive(bench.dut.ar.ready, lambda: 50 <= bench.cycle < 100)
    addresses = []
    bench.watch(bench.dut.waiting_address, addresses.append)
    words = [{"data": 0, "response": 0, "last": last} for last in (0, 1)] * 3
    bench.source(bench.dut.r, words, lambda: bench.cycle in (150, 160, 170))
    bench.run(lambda: bench.cycle == 200, 300)
    assert [addresses[cycle] for cycle in (40, 140, 155, 165, 199)] == [0x1000, 0x1000, 0x1000, 0x2000, 0x2000]

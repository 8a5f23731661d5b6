"""Writer against a memory that takes addresses and data at its own pace and answers late."""

from collections import deque

import pytest
from bench import Bench, unpack

from fusemax.spec import Config
from fusemax_hw.bus.writer import Writer


class Memory:
    """Takes bursts and data independently; answers each burst when it has both."""

    def __init__(self, bench, config, go, latency, response):
        self.bench, self.config, self.latency, self.response = bench, config, latency, response
        #: Bytes by address, in the order in which they came: an address written twice is an error.
        self.bytes = {}
        #: Burst address and response, in order.
        self.responses = []
        self.most_under_way = 0
        self._bursts, self._unfinished, self._words, self._later = [], deque(), 0, deque()
        bench.sink(bench.dut.aw, go(), self._address)
        bench.sink(bench.dut.w, go(), self._data)
        self.b = bench.source(bench.dut.b, (), go())
        bench.each(self._answer)

    def _address(self, burst):
        assert burst["address"] % 4096 + (burst["length"] + 1) * self.config.bus_bytes <= 4096
        self._bursts.append(burst)
        self._unfinished.append(burst)
        self.most_under_way = max(self.most_under_way, len(self._bursts) - len(self.b.taken))

    def _data(self, word):
        burst = self._unfinished[0]
        address = burst["address"] + self._words * self.config.bus_bytes
        for byte in range(self.config.bus_bytes):
            if word["strobe"] >> byte & 1:
                assert address + byte not in self.bytes
                self.bytes[address + byte] = word["data"] >> 8 * byte & 0xFF
        assert word["last"] == (self._words == burst["length"])
        self._words += 1
        if word["last"]:
            self._unfinished.popleft()
            self._words = 0
            self.responses.append((burst["address"], self.response(burst["address"])))
            self._later.append((self.bench.cycle + self.latency(), self.responses[-1][1]))

    def _answer(self):
        while self._later and self._later[0][0] <= self.bench.cycle:
            self.b.items.append(self._later.popleft()[1])


def random_runs(rng, config, count):
    """Runs in disjoint places, and their words."""
    runs, words, place = [], [], 0
    for _ in range(count):
        place += rng.randrange(4096 // config.bus_bytes) * config.bus_bytes
        beats = rng.choice((1, 1, 2, 3, rng.randint(1, 70)))
        tag = {
            "tail_bytes": rng.choice((config.bus_bytes, 2 * rng.randint(1, config.bus_bytes // 2))),
            "job_last": rng.random() < 0.3,
            "interrupt": rng.random() < 0.5,
            "ring_index": rng.getrandbits(16),
        }
        runs.append({"address": place, "beats": beats, "tag": tag})
        words += [rng.getrandbits(config.bus_bits) for _ in range(beats)]
        place += beats * config.bus_bytes
    runs[-1]["tag"]["job_last"] = True
    return runs, words


def expected_bytes(config, runs, words):
    words, memory = iter(words), {}
    for run in runs:
        for index in range(run["beats"]):
            word = next(words)
            there = run["tag"]["tail_bytes"] if index == run["beats"] - 1 else config.bus_bytes
            for byte in range(there):
                memory[run["address"] + index * config.bus_bytes + byte] = word >> 8 * byte & 0xFF
    return memory


@pytest.mark.parametrize("bus_bits", [32, 64, 1024])
def test_writes(bus_bits):
    config = Config(rows=2, columns=2, bus_bits=bus_bits)
    bench = Bench(Writer(config), seed=bus_bits)
    dut, rng = bench.dut, bench.rng
    runs, words = random_runs(rng, config, 120)
    bench.source(dut.runs, runs, bench.stalls())
    bench.source(dut.data, words, bench.stalls())
    memory = Memory(
        bench,
        config,
        lambda: bench.stalls(0.0, 0.2, 0.8, 1.0),
        lambda: rng.choice((1, 40, 400)),
        lambda _: rng.choice((0, 0, 0, 1)),
    )
    names = ("job_done", "job_interrupt", "job_index", "answered", "error", "error_address", "bytes_written")
    seen = {name: [] for name in names}
    for name, values in seen.items():
        bench.watch(getattr(dut, name), values.append)
    jobs = [(run["tag"]["interrupt"], run["tag"]["ring_index"]) for run in runs if run["tag"]["job_last"]]
    bench.run(lambda: sum(seen["job_done"]) >= len(jobs), 300 * len(words), settle=30)

    assert memory.bytes == expected_bytes(config, runs, words)
    assert sum(seen["bytes_written"]) == len(memory.bytes)
    done = [cycle for cycle, happened in enumerate(seen["job_done"]) if happened]
    assert [(seen["job_interrupt"][cycle], seen["job_index"][cycle]) for cycle in done] == jobs
    assert [cycle for cycle, happened in enumerate(seen["answered"]) if happened] == [cycle + 1 for cycle in memory.b.taken]
    assert not any(seen["error"])
    assert memory.most_under_way == config.outstanding_writes

    # A job is done in the cycle after its last burst's response: count the bursts before it.
    last_bursts, burst = [], -1
    for run in runs:
        end = run["address"] + run["beats"] * config.bus_bytes
        burst += sum(run["address"] <= address < end for address, _ in memory.responses)
        if run["tag"]["job_last"]:
            last_bursts.append(burst)
    assert done == [memory.b.taken[burst] + 1 for burst in last_bursts]


def test_a_word_every_cycle():
    config = Config(rows=2, columns=2)
    bench = Bench(Writer(config), seed=3)
    runs, words = random_runs(bench.rng, config, 40)
    bench.source(bench.dut.runs, runs)
    data = bench.source(bench.dut.data, words)
    done = []
    Memory(bench, config, lambda: bench.stalls(1.0), lambda: 4, lambda _: 0)
    bench.watch(bench.dut.job_done, done.append)
    bench.run(lambda: len(data.taken) == len(words), 10 * len(words))
    assert data.taken == list(range(data.taken[0], data.taken[0] + len(words)))


def bursts_of(config, runs):
    """Every burst in order: address, bus words, index of its run."""
    for index, run in enumerate(runs):
        address, beats = run["address"], run["beats"]
        while beats:
            length = min(beats, 256, (4096 - address % 4096) // config.bus_bytes)
            yield address, length, index
            address += length * config.bus_bytes
            beats -= length


@pytest.mark.parametrize("seed", range(4))
def test_errors(seed):
    """Every response with an error is told; the job that it belongs to is not done, nor is any behind it."""
    config = Config(rows=2, columns=2)
    bench = Bench(Writer(config), seed)
    dut, rng = bench.dut, bench.rng
    runs, words = random_runs(rng, config, 40)
    bench.source(dut.runs, runs, bench.stalls())
    bench.source(dut.data, words, bench.stalls())
    bursts = list(bursts_of(config, runs))
    wrong = {rng.choice(bursts)[0] for _ in range(3)}

    def response(address):
        return rng.choice((2, 3) if address in wrong else (0, 1))

    memory = Memory(bench, config, bench.stalls, lambda: rng.choice((1, 40)), response)
    seen = {name: [] for name in ("job_done", "job_index", "error", "error_address")}
    for name, values in seen.items():
        bench.watch(getattr(dut, name), values.append)
    bench.run(lambda: len(memory.b.taken) == len(bursts), 20000, settle=30)
    errors = [address for address, happened in zip(seen["error_address"], seen["error"], strict=True) if happened]
    assert errors == sorted(wrong)
    faulty = next(index for address, _, index in bursts if address in wrong)
    done = [index for index, happened in zip(seen["job_index"], seen["job_done"], strict=True) if happened]
    assert done == [run["tag"]["ring_index"] for run in runs[:faulty] if run["tag"]["job_last"]]


@pytest.mark.parametrize("seed", range(8))
def test_drain(seed):
    """Bursts that were offered are written and answered; no other is begun, and nothing is written any more."""
    config = Config(rows=2, columns=2)
    bench = Bench(Writer(config), seed)
    dut, rng = bench.dut, bench.rng
    runs, words = random_runs(rng, config, 100)
    bench.source(dut.runs, runs)
    # The data of the bursts that were begun may never come.
    start = rng.randint(5, 200)
    last_data = rng.choice((start - 3, 10000))
    data_go = bench.stalls()
    bench.source(dut.data, words, lambda: data_go() and bench.cycle < last_data)
    memory = Memory(
        bench, config, lambda: bench.stalls(0.1, 0.5, 1.0), lambda: rng.randint(1, 40), lambda _: rng.choice((0, 2))
    )
    bench.drive(dut.drain, lambda: bench.cycle >= start)
    idle, offers, strobes, done = [], [], [], []
    bench.watch(dut.idle, idle.append)
    bench.watch(dut.aw.valid, offers.append)
    bench.watch(dut.job_done, done.append)
    layout = dut.w.payload.shape()
    valid, ready = [], []
    bench.watch(dut.w.valid, valid.append)
    bench.watch(dut.w.ready, ready.append)
    bench.watch(dut.w.payload, lambda bits: strobes.append(unpack(layout, bits)["strobe"] if valid[-1] else 0))
    bench.run(lambda: bench.cycle > start and idle[-1], 5000, settle=100)
    later = offers[start:]
    assert later == sorted(later, reverse=True)
    assert bool(later[0]) <= bool(offers[start - 1])
    first_idle = start + idle[start:].index(1)
    assert all(idle[first_idle:]) and not memory._unfinished
    assert len(memory.b.taken) == len(memory.responses) > 0
    assert memory.b.taken[-1] < first_idle
    # Only a word that was on offer before may still be written.
    held = valid[start - 1] and not ready[start - 1]
    until = next(cycle for cycle in range(start, len(valid)) if ready[cycle]) if held else start - 1
    assert not any(strobes[until + 1 :])
    assert memory.bytes.items() <= expected_bytes(config, runs, words).items()
    assert not any(done[start + 1 :])


def test_a_burst_on_offer_when_all_is_drained():
    """It is begun when the memory takes it; its words are sent without data, nothing is written, and no job is done."""
    config = Config(rows=2, columns=2)
    bench = Bench(Writer(config), 5)
    dut = bench.dut
    tag = {"tail_bytes": config.bus_bytes, "job_last": True, "interrupt": True, "ring_index": 9}
    bench.source(dut.runs, [{"address": 0x1000, "beats": 3, "tag": tag}, {"address": 0x2000, "beats": 2, "tag": tag}])
    data = bench.source(dut.data, [1, 2, 3, 4, 5])
    bench.drive(dut.drain, lambda: bench.cycle >= 30)
    memory = Memory(bench, config, lambda: lambda: bench.cycle >= 60, lambda: 10, lambda _: 0)
    seen = {name: [] for name in ("idle", "job_done", "bytes_written")}
    for name, values in seen.items():
        bench.watch(getattr(dut, name), values.append)
    offers = []
    bench.watch(dut.aw.valid, offers.append)
    bench.run(lambda: len(memory.b.taken) == 1, 200, settle=40)
    assert memory.responses == [(0x1000, 0)]
    assert all(offers[30:60]) and not any(offers[61:])
    assert data.taken == [] and memory.bytes == {}
    assert not any(seen["job_done"]) and not any(seen["bytes_written"])
    assert not any(seen["idle"][30 : memory.b.taken[0]]) and all(seen["idle"][memory.b.taken[0] + 1 :])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("case", ["exact", "behind", "before", "between"])
def test_window(case, seed):
    """A burst that would leave the window is not begun, nor is any behind it; those before it are written in full."""
    config = Config(rows=2, columns=2)
    bench = Bench(Writer(config), seed)
    dut, rng = bench.dut, bench.rng
    runs, words = random_runs(rng, config, 60)
    if case == "between":
        # Those behind it are allowed again, but their data would be its own.
        rng.choice(runs[10:50])["address"] += 1 << 30
    bench.source(dut.runs, runs)
    bench.source(dut.data, words, bench.stalls())
    memory = Memory(bench, config, lambda: bench.stalls(0.1, 0.5, 1.0), lambda: rng.randint(1, 40), lambda _: 0)
    bursts = list(bursts_of(config, runs))
    # Bytes anywhere in the first and the last word that may be written.
    last_run = rng.choice(runs[:-1]) if case == "behind" else runs[-1]
    words_of_it = rng.randint(0, last_run["beats"] - 1) if case == "behind" else last_run["beats"] - 1
    first = runs[0]["address"] + 8 * (case == "before") + rng.randrange(8)
    last = last_run["address"] + 8 * words_of_it + rng.randrange(8)
    bench.drive(dut.first, lambda: first)
    bench.drive(dut.last, lambda: last)
    refusals, addresses = [], []
    bench.watch(dut.refused, refusals.append)
    bench.watch(dut.refused_address, lambda address: addresses.append(address) if refusals[-1] else None)
    good = 0
    for address, beats, _ in bursts:
        if address < first // 8 * 8 or address + 8 * beats > last // 8 * 8 + 8:
            break
        good += 1
    assert (good == len(bursts)) == (case == "exact")
    bench.run(lambda: len(memory.b.taken) >= good and bench.cycle > 100, 20000, settle=300)
    address, beats, _ = bursts[good - 1] if good else (0, 0, 0)
    end = address + beats * config.bus_bytes
    expected = expected_bytes(config, runs, words)
    assert memory.bytes == {address: byte for address, byte in expected.items() if address < end}
    assert addresses == [address for address, _, _ in bursts[good : good + 1]]

"""Store engine with a model of the lanes: rows, addresses and words in order, whatever the writer's pace."""

from collections import deque
from itertools import accumulate

import pytest
from bench import Bench, pack, unpack
from jobs import heads_of, query_tiles_of, random_job, row_offset

from fusemax.spec import Config, Timing
from fusemax_hw.control.store import Store
from fusemax_hw.words import store_word


class Lanes:
    """Output buffers of all lanes. A tile's words are written as soon as its place is free; a request passes a lane a cycle."""

    def __init__(self, bench, config, tiles, go):
        self.bench, self.config, self.go = bench, config, go
        #: (rows, slots) with rows the words of every lane.
        self.tiles = deque(tiles)
        self.buffers = [[None] * config.output_beats for _ in range(config.columns)]
        self.issued = deque()
        self.asked = 0
        self._used = self._place = 0
        self._results = 0
        self._freed = 0
        self._writes, self._requests, self._answers = deque(), deque(), {}
        dut, layout = bench.dut, store_word(config)
        bench.each(self._act)
        bench.drive(dut.results_issued, lambda: self._results)
        bench.drive(dut.answer, lambda: pack(layout, self._answers.pop(bench.cycle, {})))
        bench.watch(dut.output_freed, self._free)
        bench.watch(dut.request, lambda bits: self._request(unpack(layout, bits)))

    def _act(self):
        """Issue a tile's results if there is room; writes reach lane c in cycle c after that."""
        cycle = self.bench.cycle
        self._results = 0
        if self.tiles and self._used < self.tiles[0][1] and self.go():
            self._results = 1
            self._used += 1
            rows, _ = self.tiles.popleft()
            self.issued.append((cycle, len(rows), len(rows[0])))
            for lane, row in enumerate(rows):
                for index, word in enumerate(row):
                    self._writes.append((cycle + lane, lane, (self._place + index) % self.config.output_beats, word))
            self._place = (self._place + len(rows[0])) % self.config.output_beats
        for _ in range(len(self._writes)):
            due, lane, address, word = self._writes.popleft()
            if due <= cycle:
                self.buffers[lane][address] = word
            else:
                self._writes.append((due, lane, address, word))
        while self._requests and self._requests[0][0] <= cycle:
            _, due, lane, address = self._requests.popleft()
            self._answers[due] = {"valid": 1, "done": 1, "payload": self.buffers[lane][address]}

    def _free(self, freed):
        self._used -= freed

    def _request(self, request):
        if not request["valid"]:
            return
        issued, lanes, words = self.issued[0]
        assert self.bench.cycle >= issued + Timing(self.config).corner_to_output
        assert request["skip"] < lanes and not request["done"]
        cycle, lane = self.bench.cycle, request["skip"]
        self._requests.append((cycle + lane, cycle + self.config.columns, lane, request["output"]))
        self._requests = deque(sorted(self._requests))
        self.asked += 1
        if self.asked == lanes * words:
            self.asked = 0
            self.issued.popleft()


def rows_of(config, jobs):
    """Number of the tile, address, bus words, bytes in the last one, and whether the job ends, of every row that is written."""
    for job in jobs:
        row_bytes = job["f"] * (4 if job["float32_out"] else 2) + job["state_out"] * config.bus_bytes
        addresses = list(heads_of(job, "o"))
        for number, head in enumerate(addresses):
            groups = query_tiles_of(job)
            for tile in (tile for group in groups for tile in group):
                last_tile = tile == groups[-1][-1]
                count = job["last_queries"] if last_tile else config.columns
                for row in range(count):
                    address = head + row_offset(job, "o", tile * config.columns + row)
                    ends = last_tile and row == count - 1 and number == len(addresses) - 1
                    tag = {
                        "tail_bytes": (row_bytes - 1) % config.bus_bytes + 1,
                        "job_last": int(ends),
                        "interrupt": job["interrupt"],
                        "ring_index": job.get("ring_index", 0),
                    }
                    beats = -(-row_bytes // config.bus_bytes)
                    yield (
                        row == 0,
                        {"address": address % (1 << config.address_bits), "beats": beats, "tag": tag},
                        job["output_slots"],
                    )


def surround(bench, config, jobs, go):
    """Sources, sinks and lanes; expected runs and words."""
    rng, runs, words, tiles = bench.rng, [], [], []
    for new, run, slots in rows_of(config, jobs):
        if new:
            tiles.append(([], slots))
        row = [rng.getrandbits(config.bus_bits) for _ in range(run["beats"])]
        tiles[-1][0].append(row)
        runs.append(run)
        words += row
    dut = bench.dut
    names = dut.jobs.payload.shape().members
    bench.source(dut.jobs, [{name: job.get(name, 0) for name in names} for job in jobs], go())
    lanes = Lanes(bench, config, tiles, go(0.01, 0.2, 1.0))
    run_sink = bench.sink(dut.runs, go(0.05, 0.5, 1.0))
    data_go = go(0.1, 0.5, 1.0)

    def announced():
        """The writer takes a word only if it knows its place."""
        return data_go() and sum(run["beats"] for run in run_sink.received) > len(data.received)

    data = bench.sink(dut.data, announced)
    return run_sink, data, lanes, runs, words


def random_jobs(rng, config, count):
    jobs = []
    for index in range(count):
        f, float32_out = rng.randint(1, config.max_f), rng.getrandbits(1)
        # Nothing waits for the machine to drain here, so the buffers' slots are the smallest of all jobs'.
        job = random_job(rng, config, 1, f, queries=14, keys=5, float32_out=float32_out) | {"restart": int(index == 0)}
        jobs.append(job | {"output_slots": 1, "state_out": rng.getrandbits(1)})
    return jobs


MACHINES = [
    Config(rows=2, columns=4, max_f=64, query_tiles=1),
    Config(rows=3, columns=5, max_f=20, query_tiles=2, bus_bits=32),
    Config(rows=2, columns=2, max_f=100, query_tiles=2, bus_bits=256),
]


@pytest.mark.parametrize("machine", range(3))
def test_rows(machine):
    config = MACHINES[machine]
    bench = Bench(Store(config), seed=machine)
    jobs = random_jobs(bench.rng, config, 8)
    run_sink, data, lanes, runs, words = surround(bench, config, jobs, bench.stalls)
    bench.run(lambda: len(data.received) >= len(words), 30 * len(words) + 2000, settle=60)
    assert run_sink.received == runs
    assert data.received == words
    assert not lanes.tiles and not lanes.issued and lanes._used == 0


def test_a_word_every_cycle_within_a_tile():
    config = MACHINES[1]
    bench = Bench(Store(config), seed=4)
    job = random_job(bench.rng, config, 1, 18, queries=14, keys=5) | {"restart": 1}
    run_sink, data, _, runs, words = surround(bench, config, [job], lambda *_: bench.stalls(1.0))
    bench.run(lambda: len(data.received) == len(words), 3 * len(words) + 200)
    assert run_sink.received == runs
    assert data.received == words
    # The first two tiles' words are in the buffers together; what waits for a place comes when it can. Between tiles a cycle
    # passes, in which the next one is taken.
    starts = [new for new, run, _ in rows_of(config, [job]) for new in (new, *[False] * (run["beats"] - 1))]
    together = [place for place, new in enumerate(starts) if new][2]
    gaps = [1 + new for new in starts[1:together]]
    assert data.taken[:together] == list(accumulate(gaps, initial=data.taken[0]))

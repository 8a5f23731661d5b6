"""Dispatcher against a ring in memory: jobs to every walker once and in order, programs only when they change."""

from collections import deque

import pytest
from bench import Bench, pack
from jobs import random_job

from fusemax.spec import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, Config
from fusemax_hw.bus.reader import beat_layout
from fusemax_hw.control.dispatcher import Dispatcher
from fusemax_hw.control.load_walker import LoadKind, load_tag

WALKERS = ("query", "key", "value", "issue", "store")
PULSES = ("program_write", "program_load", "program_start", "bad")


def random_jobs(rng, config, count):
    """Jobs of two programs, in runs of the same program and the same size of results."""
    programs = []
    for e, f, ii in ((5, 6, 13), (7, 3, config.program_words)):
        words = [rng.getrandbits(32) for _ in range(ii)]
        address = rng.randrange(1 << config.address_bits - 12) << 12
        programs.append({"e": e, "f": f, "words": words, "address": address, "tag": rng.getrandbits(32)})
    jobs, program, float32_out = [], programs[0], 0
    for _ in range(count):
        if rng.random() < 0.3:
            program, float32_out = rng.choice(programs), rng.getrandbits(1)
        job = random_job(rng, config, program["e"], program["f"], queries=20, keys=20, float32_out=float32_out)
        fields = {"program_tag": program["tag"], "program_address": program["address"], "ii": len(program["words"])}
        jobs.append(job | fields | {"program": program["words"]})
    return jobs


def image(job):
    return DESCRIPTOR.pack({field.name: job[field.name] for field in DESCRIPTOR.fields if field.name in job})


class Machine:
    """Ring, reader, walkers: everything around a dispatcher."""

    def __init__(self, config, seed, jobs, ring_size_log2=2, stalled=True):
        self.config = config
        self.bench = bench = Bench(Dispatcher(config), seed)
        self.jobs = jobs = jobs(bench.rng)
        self.dut, self.rng = bench.dut, bench.rng
        self.size, self.ring_base = 1 << ring_size_log2, self.rng.randrange(1 << config.address_bits - 20) << 12
        self.tail = self.head = 0
        self.enable = 1
        self.done = 0
        self.fetched, self.programs = 0, []
        self.loaded = None
        self.restarts = []
        self.log = {name: [] for name in PULSES}
        self.written = []
        self._done_pulse = 0
        go = bench.stalls if stalled else lambda *_: bench.stalls(1.0)
        self.tail_go, self.beat_go, self.done_go = go(0.02, 1.0), go(0.2, 1.0), go(0.02, 0.1, 1.0)
        self._beats, self._beat = deque(), None
        self._layout = beat_layout(config, load_tag(config))

        bench.each(self._act)
        for name in ("tail", "enable", "ring_base"):
            bench.drive(getattr(self.dut, name), lambda name=name: getattr(self, name))
        bench.drive(self.dut.ring_size_log2, lambda: ring_size_log2)
        bench.drive(self.dut.job_done, lambda: self._done_pulse)
        bench.drive(self.dut.beat, lambda: self._beat)
        bench.drive(self.dut.beat_valid, lambda: self._beat_valid)
        self.fetch = bench.sink(self.dut.fetch, go(), self._fetch)
        self.walkers = {name: bench.sink(getattr(self.dut, name), go(0.02, 0.2, 1.0)) for name in WALKERS}
        self.seen = {}
        for name in ("head", "program_ii", "program_address", "program_data", "bad_address", *PULSES):
            bench.watch(getattr(self.dut, name), lambda value, name=name: self.seen.update({name: value}))
        bench.watch(self.dut.head, lambda _: self._check())

    def _act(self):
        """Host, reader and the end of jobs."""
        limit = len(self.jobs)
        if self.tail < limit and self.tail - self.done < self.size - 1 and self.tail_go():
            self.tail += 1
        # No job is done before its program has come.
        given = 0 if self._beats else min(len(sink.received) for sink in self.walkers.values())
        self.head = self.done
        self._done_pulse = int(self.done < given and self.done_go())
        self.done += self._done_pulse
        self._beat_valid = int(self.beat_go() and (bool(self._beats) or self.rng.random() < 0.3))
        self._beat = self.rng.getrandbits(self._layout.size)
        if self._beat_valid:
            if self._beats and self.rng.random() < 0.8:
                self._beat = pack(self._layout, self._beats.popleft())
            else:
                kind = self.rng.choice((LoadKind.QUERY, LoadKind.KEY, LoadKind.VALUE))
                shape = self._layout["tag"]
                hole = (1 << shape.shape["kind"].width) - 1 << shape.offset + shape.shape["kind"].offset
                self._beat = self._beat & ~hole | kind.value << shape.offset + shape.shape["kind"].offset

    def _fetch(self, run):
        kind = LoadKind(run["tag"]["kind"])
        if kind is LoadKind.DESCRIPTOR:
            assert self.fetched < self.tail
            assert run["address"] == self.ring_base + self.fetched % self.size * DESCRIPTOR_STRIDE_BYTES
            assert run["beats"] == -(-DESCRIPTOR_BYTES // self.config.bus_bytes)
            bits = image(self.jobs[self.fetched]) | self.rng.getrandbits(64) << DESCRIPTOR.bits
            self.fetched += 1
        else:
            assert kind is LoadKind.PROGRAM
            job = self.jobs[self.fetched - 1]
            # The machine has drained.
            assert self.head == self.fetched - 1
            assert run["address"] == job["program_address"]
            assert run["beats"] == -(-len(job["program"]) * 4 // self.config.bus_bytes)
            bits = sum(word << 32 * index for index, word in enumerate(job["program"]))
            self.programs.append(self.fetched - 1)
        for index in range(run["beats"]):
            data = bits >> index * self.config.bus_bits & (1 << self.config.bus_bits) - 1
            tag = {"kind": kind.value, "place": self.rng.getrandbits(8)}
            self._beats.append({"data": data, "index": index, "last": int(index == run["beats"] - 1), "error": 0, "tag": tag})

    def _check(self):
        seen, cycle = self.seen, self.bench.cycle
        assert seen["head"] == self.head, f"cycle {cycle}"
        for name in PULSES:
            if seen[name]:
                self.log[name].append(cycle)
        # The length of the program that runs does not change while it runs.
        if self.loaded is not None:
            assert seen["program_ii"] == len(self.loaded), f"cycle {cycle}"
        if seen["program_load"]:
            assert self.head == self.fetched - 1
            self.loaded = self.jobs[self.fetched - 1]["program"]
            self.written.append({})
            assert not self.log["program_start"] or self.log["program_start"][-1] < cycle
        if seen["program_write"]:
            self.written[-1][seen["program_address"]] = seen["program_data"]
            assert bool(seen["program_start"]) == (
                (seen["program_address"] + 1) * self.config.bus_bytes >= 4 * len(self.loaded)
            )
        else:
            assert not seen["program_start"]

    def check_jobs(self, count):
        """The first ``count`` jobs went to all walkers, and their programs to the program store."""
        restarts, loaded = [], None
        for job in self.jobs[:count]:
            program = (job["program_tag"], job["float32_out"])
            restarts.append(int(program != loaded))
            loaded = program
        for name, sink in self.walkers.items():
            fields = [field for field in getattr(self.dut, name).payload.shape().members if field != "restart"]
            expected = [{field: job[field] for field in fields} for job in self.jobs[:count]]
            expected = [job | {"restart": restart} for job, restart in zip(expected, restarts, strict=True)]
            assert sink.received == expected, name
        assert self.programs == [index for index, restart in enumerate(restarts) if restart]
        assert len(self.log["program_load"]) == len(self.log["program_start"]) == len(self.programs)
        for index, words in zip(self.programs, self.written, strict=True):
            program = self.jobs[index]["program"]
            bits = sum(word << self.config.bus_bits * address for address, word in words.items())
            assert bits == sum(word << 32 * position for position, word in enumerate(program))


@pytest.mark.parametrize("bus_bits", [32, 64, 256, 1024])
def test_jobs(bus_bits):
    config = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=bus_bits)
    machine = Machine(config, bus_bits, lambda rng: random_jobs(rng, config, 20))
    machine.bench.run(lambda: machine.done == len(machine.jobs), 30000, settle=30)
    machine.check_jobs(len(machine.jobs))
    assert not machine.log["bad"]
    assert len(machine.programs) > 3


BAD = (
    {"magic": 0xFA02},
    {"ii": 0},
    {"ii": 1000},
    {"e": 0},
    {"e": 9},
    {"f": 0},
    {"f": 9},
    {"heads": 0},
    {"batch": 0},
    {"key_tiles": 0},
    {"last_keys": 0},
    {"last_keys": 5},
    {"last_queries": 0},
    {"last_queries": 5},
    {"large_groups": 0},
    {"groups": 3, "large_groups": 4},
    {"group_tiles": 0},
    {"group_tiles": 1, "groups": 3, "large_groups": 2},
    {"group_tiles": 4, "query_slots": 3},
    {"query_slots": 65},
    {"output_slots": 0},
    {"output_slots": 1000},
)


@pytest.mark.parametrize("wrong", BAD, ids=lambda wrong: "-".join(f"{name}={value}" for name, value in wrong.items()))
def test_bad_descriptor(wrong):
    """The jobs before it are done; it and those behind it are not begun, and its address is told once."""
    config = Config(rows=4, columns=4, max_e=8, max_f=8)
    bad_index = 3

    def jobs(rng):
        jobs = random_jobs(rng, config, 6)
        jobs[bad_index] |= wrong
        return jobs

    machine = Machine(config, 1, jobs, stalled=False)
    machine.bench.run(lambda: machine.done == bad_index and machine.log["bad"], 3000, settle=100)
    machine.check_jobs(bad_index)
    assert len(machine.log["bad"]) == 1
    assert machine.fetched == bad_index + 1
    assert machine.seen["bad_address"] == machine.ring_base + bad_index % machine.size * DESCRIPTOR_STRIDE_BYTES


def test_stopped():
    """While it is not enabled no job is begun, not even one whose descriptor has been read."""
    config = Config(rows=4, columns=4, max_e=8, max_f=8)
    machine = Machine(config, 2, lambda rng: random_jobs(rng, config, 6), stalled=False)
    machine.bench.each(lambda: setattr(machine, "enable", machine.fetched < 3 and machine.bench.cycle > 50))
    machine.bench.run(lambda: machine.done == 2, 3000, settle=200)
    machine.check_jobs(2)
    assert machine.fetched == 3
    assert machine.fetch.taken[0] > 50

"""Dispatcher against a ring in memory: jobs to every walker once and in order, programs only when they change."""

from collections import deque

import pytest
from bench import Bench, pack
from jobs import random_job

from fusemax.spec import (
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    PROGRAM_HEADER,
    PROGRAM_MAGIC,
    PROGRAM_VERSION,
    Cause,
    Config,
)
from fusemax_hw.bus.reader import beat_layout
from fusemax_hw.control.dispatcher import Dispatcher
from fusemax_hw.control.load_walker import LoadKind, load_tag

WALKERS = ("query", "key", "value", "issue", "store")
PULSES = ("program_write", "program_load", "program_start", "fault")
FAULT = ("fault_cause", "fault_address", "fault_job")
#: Another value of one of these finds the machine empty.
SETTINGS = ("program_tag", "ii", "e", "f", "query_slots", "output_slots", "float32_out", "state_out", "raw_out")


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
        if rng.random() < 0.3:
            jobs[-1:] = chain_of(rng, jobs[-1], rng.randint(2, 3))
    return jobs


def chain_of(rng, job, count):
    """Jobs that continue each other, each with other keys."""
    job = job | {"heads": 1, "batch": 1, "groups": 1, "large_groups": 1}
    return [
        job | {"continues": int(index < count - 1), "continued": int(index > 0), "key_tiles": rng.randint(1, 5)}
        for index in range(count)
    ]


def header_of(job):
    fields = {"magic": PROGRAM_MAGIC, "version": PROGRAM_VERSION, "tag": job["program_tag"]}
    return PROGRAM_HEADER.pack(fields | {name: job[name] for name in ("ii", "e", "f")})


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
        self._done_pulse = self._done_index = 0
        #: What is wrong with a fetch: a word of a job's descriptor, and those behind it, that cannot be read; a job whose
        #: descriptor is refused; a function that changes a program's header.
        self.unreadable, self.refuse, self.spoil = (-1, 0), -1, lambda header: header
        self._refused = self._refusing = 0
        go = bench.stalls if stalled else lambda *_: bench.stalls(1.0)
        self.tail_go, self.beat_go, self.done_go = go(0.02, 1.0), go(0.2, 1.0), go(0.02, 0.1, 1.0)
        self._beats, self._beat = deque(), None
        self._layout = beat_layout(config, load_tag(config))

        bench.each(self._act)
        for name in ("tail", "enable", "ring_base"):
            bench.drive(getattr(self.dut, name), lambda name=name: getattr(self, name))
        bench.drive(self.dut.ring_size_log2, lambda: ring_size_log2)
        bench.drive(self.dut.job_done, lambda: self._done_pulse)
        bench.drive(self.dut.job_index, lambda: self._done_index)
        bench.drive(self.dut.refused, lambda: self._refused)
        bench.drive(self.dut.beat, lambda: self._beat)
        bench.drive(self.dut.beat_valid, lambda: self._beat_valid)
        self.fetch = bench.sink(self.dut.fetch, go(), self._fetch)
        self.walkers = {name: bench.sink(getattr(self.dut, name), go(0.02, 0.2, 1.0)) for name in WALKERS}
        self.seen = {}
        for name in ("head", "program_ii", "program_address", "program_data", *FAULT, *PULSES):
            bench.watch(getattr(self.dut, name), lambda value, name=name: self.seen.update({name: value}))
        bench.watch(self.dut.head, lambda _: self._check())

    def _act(self):
        """Host, reader and the end of jobs."""
        self._refused, self._refusing = self._refusing, 0
        limit = len(self.jobs)
        if self.tail < limit and self.tail - self.done < self.size - 1 and self.tail_go():
            self.tail += 1
        # No job is done before its program has come, no chain before its last job.
        given = 0 if self._beats else min(len(sink.received) for name, sink in self.walkers.items() if name != "store")
        stored = [job["ring_index"] for job in self.walkers["store"].received]
        ends = [index for index in stored if self.done < index <= given]
        self.head = self.done
        self._done_pulse = int(bool(ends) and self.done_go())
        self._done_index = ends[0] if self._done_pulse else self.rng.getrandbits(16)
        self.done = ends[0] if self._done_pulse else self.done
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
            if self.fetched - 1 == self.refuse:
                self._refusing = 1
                return
        else:
            assert kind is LoadKind.PROGRAM
            job = self.jobs[self.fetched - 1]
            # The machine has drained.
            assert self.head == self.fetched - 1
            header_bytes = max(16, self.config.bus_bytes)
            assert run["address"] == job["program_address"] - header_bytes
            assert run["beats"] == header_bytes // self.config.bus_bytes - (-len(job["program"]) * 4 // self.config.bus_bytes)
            bits = sum(word << 32 * index for index, word in enumerate(job["program"])) << 8 * header_bytes
            bits |= self.spoil(header_of(job)) << 8 * (header_bytes - 16) | self.rng.getrandbits(
                8 * (header_bytes - 16) or 1
            ) % (1 << 8 * (header_bytes - 16))
            self.programs.append(self.fetched - 1)
        for index in range(run["beats"]):
            data = bits >> index * self.config.bus_bits & (1 << self.config.bus_bits) - 1
            tag = {"kind": kind.value, "place": self.rng.getrandbits(8)}
            beat = {"data": data, "index": index, "last": int(index == run["beats"] - 1), "tag": tag}
            wrong = kind is LoadKind.DESCRIPTOR and self.unreadable[0] == self.fetched - 1 and index >= self.unreadable[1]
            self._beats.append(beat | {"error": int(wrong)})

    def _check(self):
        seen, cycle = self.seen, self.bench.cycle
        assert seen["head"] == self.head, f"cycle {cycle}"
        for name in PULSES:
            if seen[name]:
                self.log[name].append(cycle)
        # The length of the program that runs does not change while it runs.
        if self.loaded is not None:
            assert seen["program_ii"] == len(self.loaded), f"cycle {cycle}"
        if seen["fault"]:
            # Whoever hears of it stops the machine.
            self.enable = 0
            self.fault = {name: seen[name] for name in FAULT}
            assert self.head == self.done
        if seen["program_load"]:
            assert self.head == self.fetched - 1
            self.loaded = self.jobs[self.fetched - 1]["program"]
            self.written.append({})
            assert not self.log["program_start"] or self.log["program_start"][-1] < cycle
        if seen["program_write"]:
            self.written[-1][seen["program_address"]] = seen["program_data"]
            starts = (seen["program_address"] + 1) * self.config.bus_bytes >= 4 * len(self.loaded)
            right = self.spoil(0) == 0
            assert bool(seen["program_start"]) == (starts and right)
        else:
            assert not seen["program_start"]

    def check_jobs(self, count):
        """The first ``count`` jobs went to all walkers, and their programs to the program store."""
        restarts, loaded = [], None
        for job in self.jobs[:count]:
            settings = [job.get(name, 0) for name in SETTINGS]
            restarts.append(int(settings != loaded))
            loaded = settings
        for name, sink in self.walkers.items():
            fields = getattr(self.dut, name).payload.shape().members
            expected = [
                job | {"restart": restart, "ring_index": index + 1}
                for index, (job, restart) in enumerate(zip(self.jobs[:count], restarts, strict=True))
                if name != "store" or not job.get("continues")
            ]
            assert sink.received == [{field: job.get(field, 0) for field in fields} for job in expected], name
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
    assert not machine.log["fault"]
    assert len(machine.programs) > 1


def test_a_large_ring():
    """The ring's size is more than a byte counts: no descriptor is fetched from another's place."""
    config = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=1024)
    machine = Machine(config, 3, lambda rng: random_jobs(rng, config, 260), ring_size_log2=9, stalled=False)
    assert 256 < len(machine.jobs) < 512
    machine.bench.run(lambda: machine.done == len(machine.jobs), 30000, settle=30)
    machine.check_jobs(len(machine.jobs))


CONFIG = Config(rows=4, columns=4, max_e=8, max_f=8)
BAD = ({"magic": 0xFA01}, {"e": 9}, {"query_slots": 5, "e": 5}, {"continued": 1}, {"continues": 1, "heads": 2})


def name_of(wrong):
    return "-".join(f"{name}={value}" for name, value in wrong.items())


def with_wrong(index, wrong, count=6):
    def jobs(rng):
        jobs = [job for job in random_jobs(rng, CONFIG, 3 * count) if not job.get("continues") and not job.get("continued")]
        jobs[index] |= wrong
        return jobs[:count]

    return jobs


def check_fault(machine, index, cause, address):
    """The jobs before it are done; it and those behind it are not begun, and it is told once, when they are done."""
    machine.check_jobs(index)
    assert machine.done == index
    assert len(machine.log["fault"]) == 1
    assert machine.fetched == index + 1
    assert machine.fault == {"fault_cause": cause, "fault_address": address, "fault_job": index}


@pytest.mark.parametrize("wrong", BAD, ids=name_of)
def test_bad_descriptor(wrong):
    machine = Machine(CONFIG, 1, with_wrong(3, wrong), stalled=False)
    machine.bench.run(lambda: machine.log["fault"], 3000, settle=100)
    check_fault(machine, 3, Cause.DESCRIPTOR, machine.ring_base + 3 * DESCRIPTOR_STRIDE_BYTES)


BAD_CHAIN = (
    {"continued": 0},
    {"program_tag": 1},
    {"output_slots": 1},
    {"query_slots": 3},
    {"float32_out": 0},
    {"state_out": 1},
    {"raw_out": 1},
    {"group_tiles": 1, "large_groups": 1},
    {"last_queries": 1},
    {"share": 3},
    {"heads": 2},
)


@pytest.mark.parametrize("wrong", BAD_CHAIN, ids=name_of)
def test_bad_chain(wrong):
    """The jobs before the chain are done; the job that does not continue it as it should is told."""

    def jobs(rng):
        jobs = with_wrong(0, {})(rng)
        base = jobs[2] | {"group_tiles": 2, "query_slots": 2, "last_queries": 4, "share": 2, "output_slots": 2}
        base |= {"float32_out": 1, "state_out": 0, "raw_out": 0}
        chain = chain_of(rng, base, 3)
        chain[1] |= wrong
        return [*jobs[:2], *chain, *jobs[:2]]

    machine = Machine(CONFIG, 1, jobs, ring_size_log2=3, stalled=False)
    machine.bench.run(lambda: machine.log["fault"], 3000, settle=100)
    assert machine.done == 2
    assert machine.fault == {
        "fault_cause": Cause.DESCRIPTOR,
        "fault_address": machine.ring_base + 3 * DESCRIPTOR_STRIDE_BYTES,
        "fault_job": 3,
    }
    assert len(machine.walkers["key"].received) == 3
    assert len(machine.walkers["store"].received) == 2


def test_unreadable_descriptor():
    machine = Machine(CONFIG, 1, with_wrong(3, {}))
    machine.unreadable = (3, 5)
    machine.bench.run(lambda: machine.log["fault"], 8000, settle=100)
    check_fault(machine, 3, Cause.READ, machine.ring_base + 3 * DESCRIPTOR_STRIDE_BYTES + 40)


def test_refused_descriptor():
    machine = Machine(CONFIG, 1, with_wrong(2, {}))
    machine.refuse = 2
    machine.bench.run(lambda: machine.log["fault"], 8000, settle=100)
    check_fault(machine, 2, Cause.WINDOW, machine.ring_base + 2 * DESCRIPTOR_STRIDE_BYTES)


@pytest.mark.parametrize("bus_bits", [32, 64, 128, 1024])
@pytest.mark.parametrize("bit", [0, 32, 48, 64, 80, 96, 127])
def test_bad_header(bit, bus_bits):
    """A program whose header is another one does not start."""
    config = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=bus_bits)
    machine = Machine(config, 1, lambda rng: random_jobs(rng, config, 6), stalled=False)
    machine.spoil = lambda header: header ^ 1 << bit
    machine.bench.run(lambda: machine.log["fault"], 1000, settle=200)
    assert not machine.log["program_start"]
    assert len(machine.log["fault"]) == 1
    address = machine.jobs[0]["program_address"] - max(16, config.bus_bytes)
    assert machine.fault == {"fault_cause": Cause.PROGRAM, "fault_address": address, "fault_job": 0}


def test_stopped():
    """While it is not enabled no job is begun, not even one whose descriptor has been read."""
    machine = Machine(CONFIG, 2, with_wrong(0, {}), stalled=False)
    machine.bench.each(lambda: setattr(machine, "enable", machine.fetched < 3 and machine.bench.cycle > 50))
    machine.bench.run(lambda: machine.done == 2, 3000, settle=200)
    machine.check_jobs(2)
    assert machine.fetched == 3
    assert machine.fetch.taken[0] > 50

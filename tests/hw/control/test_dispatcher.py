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
    SETTINGS,
    Cause,
    Config,
    ceil_div,
)
from fusemax_hw.bus.reader import beat_layout
from fusemax_hw.control.dispatcher import Dispatcher
from fusemax_hw.control.load_walker import LoadKind, load_tag

WALKERS = ("query", "key", "value", "mask", "bias", "issue", "store")
#: Of walkers that do not get every job, whether they get one.
CONCERNED = {
    "store": lambda job: not job.get("continues"),
    "mask": lambda job: job.get("bit_mask"),
    "bias": lambda job: job.get("bias"),
}
PULSES = ("program_write", "program_load", "program_start", "fault")
FAULT = ("fault_cause", "fault_address", "fault_job")


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
        job["bit_mask"] &= job["group_tiles"] <= config.mask_tiles
        job["bias"] &= job["group_tiles"] <= config.bias_tiles
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


class Host:
    """Rings the doorbell for jobs, and hears when they are complete.

    ``head`` is what the dispatcher must show: the jobs that were complete in the cycle before.
    """

    def __init__(self, bench, jobs, size_log2, ring_base, go):
        self.jobs, self.size, self.ring_base = jobs, 1 << size_log2, ring_base
        self.tail = self.head = self.done = 0
        self.enable = 1
        self._rng, self._tail_go, self._done_go = bench.rng, go(0.02, 1.0), go(0.02, 0.1, 1.0)
        self._done_pulse = self._done_index = 0
        for name in ("tail", "enable", "ring_base"):
            bench.drive(getattr(bench.dut, name), lambda name=name: getattr(self, name))
        bench.drive(bench.dut.ring_size_log2, lambda: size_log2)
        bench.drive(bench.dut.job_done, lambda: self._done_pulse)
        bench.drive(bench.dut.job_index, lambda: self._done_index)

    def announce(self):
        """Perhaps another job."""
        if self.tail < len(self.jobs) and self.tail - self.done < self.size - 1 and self._tail_go():
            self.tail += 1

    def complete(self, given, stored):
        """Perhaps the end of a job: of those ``stored`` (indices behind them) that all walkers were ``given``."""
        ends = [index for index in stored if self.done < index <= given]
        self.head = self.done
        self._done_pulse = int(bool(ends) and self._done_go())
        self._done_index = ends[0] if self._done_pulse else self._rng.getrandbits(16)
        self.done = ends[0] if self._done_pulse else self.done


class Reader:
    """Answers reads of descriptors and programs, between words that are for others; checks what is asked for."""

    def __init__(self, bench, config, host, go):
        self.config, self.host, self._rng = config, host, bench.rng
        self.fetched, self.programs = 0, []
        #: What is wrong with a fetch: a word of a job's descriptor, and those behind it, that cannot be read; a job whose
        #: descriptor is refused; a function that changes a program's header.
        self.unreadable, self.refuse, self.spoil = (-1, 0), -1, lambda header: header
        self._refused = self._refusing = 0
        self._go, self._waiting, self._beat, self._valid = go(0.2, 1.0), deque(), None, 0
        self._layout = beat_layout(config, load_tag(config))
        bench.drive(bench.dut.refused, lambda: self._refused)
        bench.drive(bench.dut.beat, lambda: self._beat)
        bench.drive(bench.dut.beat_valid, lambda: self._valid)
        self.fetch = bench.sink(bench.dut.fetch, go(), self._fetch)

    @property
    def is_idle(self):
        return not self._waiting

    def refuse_now(self):
        self._refused, self._refusing = self._refusing, 0

    def answer(self):
        """A word of what was asked for, a word for somebody else, or none."""
        rng = self._rng
        self._valid = int(self._go() and (bool(self._waiting) or rng.random() < 0.3))
        self._beat = rng.getrandbits(self._layout.size)
        if not self._valid:
            return
        if self._waiting and rng.random() < 0.8:
            self._beat = pack(self._layout, self._waiting.popleft())
        else:
            kind = rng.choice((LoadKind.QUERY, LoadKind.KEY, LoadKind.VALUE))
            tag = self._layout["tag"]
            place, bits = tag.offset + tag.shape["kind"].offset, tag.shape["kind"].width
            self._beat = self._beat & ~((1 << bits) - 1 << place) | kind.value << place

    def _fetch(self, run):
        kind = LoadKind(run["tag"]["kind"])
        bits = self._descriptor(run) if kind is LoadKind.DESCRIPTOR else self._program(run, kind)
        if self._refusing:
            return
        for index in range(run["beats"]):
            data = bits >> index * self.config.bus_bits & (1 << self.config.bus_bits) - 1
            tag = {"kind": kind.value, "place": self._rng.getrandbits(8)}
            beat = {"data": data, "index": index, "last": int(index == run["beats"] - 1), "tag": tag}
            wrong = kind is LoadKind.DESCRIPTOR and self.unreadable[0] == self.fetched - 1 and index >= self.unreadable[1]
            self._waiting.append(beat | {"error": int(wrong)})

    def _descriptor(self, run):
        host = self.host
        assert self.fetched < host.tail
        assert run["address"] == host.ring_base + self.fetched % host.size * DESCRIPTOR_STRIDE_BYTES
        assert run["beats"] == ceil_div(DESCRIPTOR_BYTES, self.config.bus_bytes)
        self._refusing = int(self.fetched == self.refuse)
        self.fetched += 1
        return image(host.jobs[self.fetched - 1]) | self._rng.getrandbits(64) << DESCRIPTOR.bits

    def _program(self, run, kind):
        assert kind is LoadKind.PROGRAM
        job, bus_bytes = self.host.jobs[self.fetched - 1], self.config.bus_bytes
        # The machine has drained.
        assert self.host.head == self.fetched - 1
        header_bytes = max(16, bus_bytes)
        assert run["address"] == job["program_address"] - header_bytes
        assert run["beats"] == header_bytes // bus_bytes + ceil_div(len(job["program"]) * 4, bus_bytes)
        self.programs.append(self.fetched - 1)
        bits = sum(word << 32 * index for index, word in enumerate(job["program"])) << 8 * header_bytes
        # The header ends where the program begins; in front of it there may be anything.
        before = 8 * (header_bytes - 16)
        return bits | self.spoil(header_of(job)) << before | self._rng.getrandbits(before or 1) % (1 << before)


class Checker:
    """Watches a dispatcher: what it shows in every cycle, and at the end what it has handed out."""

    def __init__(self, bench, config, host, reader, walkers):
        self.bench, self.config, self.host, self.reader, self.walkers = bench, config, host, reader, walkers
        self.log, self.written = {name: [] for name in PULSES}, []
        self.fault = self._loaded = None
        self._seen = {}
        for name in ("head", "program_ii", "program_address", "program_data", *FAULT, *PULSES):
            bench.watch(getattr(bench.dut, name), lambda value, name=name: self._seen.update({name: value}))
        bench.watch(bench.dut.head, lambda _: self._end_cycle())

    def _end_cycle(self):
        seen, cycle, host = self._seen, self.bench.cycle, self.host
        assert seen["head"] == host.head, f"cycle {cycle}"
        for name in PULSES:
            if seen[name]:
                self.log[name].append(cycle)
        # The length of the program that runs does not change while it runs.
        if self._loaded is not None:
            assert seen["program_ii"] == len(self._loaded), f"cycle {cycle}"
        if seen["fault"]:
            # Whoever hears of it stops the machine.
            host.enable = 0
            self.fault = {name: seen[name] for name in FAULT}
            assert host.head == host.done
        self._follow_program()

    def _follow_program(self):
        seen, fetched = self._seen, self.reader.fetched
        if seen["program_load"]:
            assert self.host.head == fetched - 1
            self._loaded = self.host.jobs[fetched - 1]["program"]
            self.written.append({})
            assert not self.log["program_start"] or self.log["program_start"][-1] < self.bench.cycle
        if seen["program_write"]:
            self.written[-1][seen["program_address"]] = seen["program_data"]
            starts = (seen["program_address"] + 1) * self.config.bus_bytes >= 4 * len(self._loaded)
            right = self.reader.spoil(0) == 0
            assert bool(seen["program_start"]) == (starts and right)
        else:
            assert not seen["program_start"]

    def check_jobs(self, count):
        """The first ``count`` jobs went to all walkers, and their programs to the program store."""
        jobs = self.host.jobs
        restarts, loaded = [], None
        for job in jobs[:count]:
            settings = [job.get(name, 0) for name in SETTINGS]
            restarts.append(int(settings != loaded))
            loaded = settings
        for name, sink in self.walkers.items():
            fields = getattr(self.bench.dut, name).payload.shape().members
            expected = [
                job | {"restart": restart, "ring_index": index + 1}
                for index, (job, restart) in enumerate(zip(jobs[:count], restarts, strict=True))
                if name not in CONCERNED or CONCERNED[name](job)
            ]
            assert sink.received == [{field: job.get(field, 0) for field in fields} for job in expected], name
        programs = self.reader.programs
        assert programs == [index for index, restart in enumerate(restarts) if restart]
        assert len(self.log["program_load"]) == len(self.log["program_start"]) == len(programs)
        for index, words in zip(programs, self.written, strict=True):
            program = jobs[index]["program"]
            bits = sum(word << self.config.bus_bits * address for address, word in words.items())
            assert bits == sum(word << 32 * position for position, word in enumerate(program))


class Machine:
    """A dispatcher with everything around it: host and ring, reader, walkers, and who checks it."""

    def __init__(self, config, seed, jobs, ring_size_log2=2, stalled=True):
        self.bench = bench = Bench(Dispatcher(config), seed)
        jobs = jobs(bench.rng)
        ring_base = bench.rng.randrange(1 << config.address_bits - 20) << 12
        go = bench.stalls if stalled else lambda *_: bench.stalls(1.0)
        self.host = Host(bench, jobs, ring_size_log2, ring_base, go)
        self.reader = Reader(bench, config, self.host, go)
        self.walkers = {name: bench.sink(getattr(bench.dut, name), go(0.02, 0.2, 1.0)) for name in WALKERS}
        self.checker = Checker(bench, config, self.host, self.reader, self.walkers)
        bench.each(self._act)

    def _act(self):
        self.reader.refuse_now()
        self.host.announce()
        # No job is done before its program has come, no chain before its last job.
        of_all = [len(sink.received) for name, sink in self.walkers.items() if name not in CONCERNED]
        given = min(of_all) if self.reader.is_idle else 0
        self.host.complete(given, [job["ring_index"] for job in self.walkers["store"].received])
        self.reader.answer()

    def run_to_end(self):
        host = self.host
        self.bench.run(lambda: host.done == len(host.jobs), 30000, settle=30)
        self.checker.check_jobs(len(host.jobs))

    def run_to_fault(self, limit, settle=100):
        self.bench.run(lambda: self.checker.log["fault"], limit, settle=settle)

    def descriptor(self, index):
        """Address of a job's descriptor."""
        return self.host.ring_base + index * DESCRIPTOR_STRIDE_BYTES


@pytest.mark.parametrize("bus_bits", [32, 64, 256, 1024])
def test_jobs(bus_bits):
    config = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=bus_bits)
    machine = Machine(config, bus_bits, lambda rng: random_jobs(rng, config, 20))
    machine.run_to_end()
    assert not machine.checker.log["fault"]
    assert len(machine.reader.programs) > 1


def test_a_large_ring():
    """The ring's size is more than a byte counts: no descriptor is fetched from another's place."""
    config = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=1024)
    machine = Machine(config, 3, lambda rng: random_jobs(rng, config, 260), ring_size_log2=9, stalled=False)
    assert 256 < len(machine.host.jobs) < 512
    machine.run_to_end()


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
    machine.checker.check_jobs(index)
    assert machine.host.done == index
    assert len(machine.checker.log["fault"]) == 1
    assert machine.reader.fetched == index + 1
    assert machine.checker.fault == {"fault_cause": cause, "fault_address": address, "fault_job": index}


@pytest.mark.parametrize("wrong", BAD, ids=name_of)
def test_bad_descriptor(wrong):
    machine = Machine(CONFIG, 1, with_wrong(3, wrong), stalled=False)
    machine.run_to_fault(3000)
    check_fault(machine, 3, Cause.DESCRIPTOR, machine.descriptor(3))


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
    machine.run_to_fault(3000)
    assert machine.host.done == 2
    assert machine.checker.fault == {
        "fault_cause": Cause.DESCRIPTOR,
        "fault_address": machine.descriptor(3),
        "fault_job": 3,
    }
    assert len(machine.walkers["key"].received) == 3
    assert len(machine.walkers["store"].received) == 2


def test_unreadable_descriptor():
    machine = Machine(CONFIG, 1, with_wrong(3, {}))
    machine.reader.unreadable = (3, 5)
    machine.run_to_fault(8000)
    check_fault(machine, 3, Cause.READ, machine.descriptor(3) + 40)


def test_refused_descriptor():
    machine = Machine(CONFIG, 1, with_wrong(2, {}))
    machine.reader.refuse = 2
    machine.run_to_fault(8000)
    check_fault(machine, 2, Cause.WINDOW, machine.descriptor(2))


@pytest.mark.parametrize("bus_bits", [32, 64, 128, 1024])
@pytest.mark.parametrize("bit", [0, 32, 48, 64, 80, 96, 127])
def test_bad_header(bit, bus_bits):
    """A program whose header is another one does not start."""
    config = Config(rows=4, columns=4, max_e=8, max_f=8, bus_bits=bus_bits)
    machine = Machine(config, 1, lambda rng: random_jobs(rng, config, 6), stalled=False)
    machine.reader.spoil = lambda header: header ^ 1 << bit
    machine.run_to_fault(1000, settle=200)
    assert not machine.checker.log["program_start"]
    assert len(machine.checker.log["fault"]) == 1
    address = machine.host.jobs[0]["program_address"] - max(16, config.bus_bytes)
    assert machine.checker.fault == {"fault_cause": Cause.PROGRAM, "fault_address": address, "fault_job": 0}


def test_stopped():
    """While it is not enabled no job is begun, not even one whose descriptor has been read."""
    machine = Machine(CONFIG, 2, with_wrong(0, {}), stalled=False)
    machine.bench.each(lambda: setattr(machine.host, "enable", machine.reader.fetched < 3 and machine.bench.cycle > 50))
    machine.bench.run(lambda: machine.host.done == 2, 3000, settle=200)
    machine.checker.check_jobs(2)
    assert machine.reader.fetched == 3
    assert machine.reader.fetch.taken[0] > 50

"""Jobs of different shapes, programs and formats, many at a time in the ring, without the driver in between."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import fusemax
from fusemax.spec import (
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    JOB_ENTRY,
    Cause,
    Descriptor,
    counter_offset,
    job_entry_offset,
    register,
)
from fusemax_sim import Memory, RtlTransport
from fusemax_sim.problems import CONFIGS, Problem, draw, run
from fusemax_sim.recorded_calls import record_call

pytestmark = pytest.mark.cosim

#: Memory of one job; the ring is behind those of all jobs.
PIECE_BYTES = 1 << 20
MOST_JOBS = 24
RING = MOST_JOBS * PIECE_BYTES + 3 * 256
#: Byte that shows what was not written.
UNTOUCHED = 0xA5
ADDRESSES = ("program_address", "q_address", "k_address", "v_address", "o_address")


@dataclass
class Job:
    """A descriptor and the memory that it needs, before and after."""

    fields: Descriptor
    before: np.ndarray
    after: np.ndarray
    counters: dict[str, int]


def recorded(problem: Problem) -> Job:
    """The job that the driver makes of a problem, and what the model makes of the job."""
    counters: dict[str, int] = {}

    def call(device: fusemax.Device) -> None:
        assert run(problem, device).error == ""
        counters.update(device.counters.values)

    load = record_call(problem.config, call, PIECE_BYTES)
    (fields,) = load.jobs
    images = []
    for output in (np.full_like(load.before, UNTOUCHED), load.after):
        image = np.full(PIECE_BYTES, UNTOUCHED, np.uint8)
        image[load.start :][: len(load.before)] = np.where(load.output, output, load.before)
        images.append(image)
    return Job(fields, *images, counters)


class Machine:
    """The emitted Verilog and its registers."""

    def __init__(self, config: str, jobs: list[Job], ring_size_log2: int, memory: Memory) -> None:
        self.transport = RtlTransport(CONFIGS[config], memory, memory_bytes=RING + (1 << 16))
        self.jobs = jobs
        self.ring_size_log2 = ring_size_log2
        for index, job in enumerate(jobs):
            self.piece(index)[:] = job.before
        self["RING_BASE_LOW"] = RING
        self["RING_SIZE_LOG2"] = ring_size_log2
        self["INTERRUPT_ENABLE"] = 3

    def __getitem__(self, name: str) -> int:
        return self.transport.read_register(register(name).offset)

    def __setitem__(self, name: str, value: int) -> None:
        self.transport.write_register(register(name).offset, value)

    def piece(self, index: int) -> np.ndarray:
        return self.transport.memory[index * PIECE_BYTES : (index + 1) * PIECE_BYTES]

    def place(self, index: int, interrupt: bool) -> None:
        """Write the descriptor of a job."""
        fields = replace(self.jobs[index].fields, interrupt=int(interrupt))
        fields = replace(fields, **{name: getattr(fields, name) + index * PIECE_BYTES for name in ADDRESSES})
        start = RING + index % (1 << self.ring_size_log2) * DESCRIPTOR_STRIDE_BYTES
        image = fields.pack().to_bytes(DESCRIPTOR_BYTES, "little")
        self.transport.memory[start : start + DESCRIPTOR_BYTES] = np.frombuffer(image, np.uint8)

    def entry(self, index: int) -> dict[str, int]:
        """The job table's entry."""
        low, high = (self.transport.read_register(job_entry_offset(index) + half) for half in (0, 4))
        return JOB_ENTRY.unpack(low | high << 32)

    def check_memory(self) -> None:
        """Memory is as the model leaves it: every output right, and nothing else touched."""
        for index, job in enumerate(self.jobs):
            wrong = np.flatnonzero(self.piece(index) != job.after)
            assert wrong.size == 0, f"job {index}: {wrong.size} bytes differ, first at {wrong[0]}: {job.fields}"

    def check(self) -> None:
        """Memory and counters are as the model has them."""
        self.check_memory()
        for name in ("jobs", "tiles", "slots_qk", "slots_slnv", "bytes_written"):
            counted = self.transport.read_register(counter_offset(name))
            assert counted == sum(job.counters[name] for job in self.jobs)


def some_jobs(config: str, number: int, seed: int) -> list[Job]:
    """Random jobs, some of which use the program of the one before."""
    problems = [draw(config, seed + index) for index in range(10 * number)]
    fitting = [problem for problem in problems if problem.family in ("normal", "peaked", "zeros", "spread", "rising")]
    return [recorded(problem) for index in range(number) for problem in [fitting[index - (index % 4 == 3)]]]


@pytest.mark.parametrize(("config", "stall_probability"), [("tiny", 0.0), ("tiny", 0.4), ("small", 0.2), ("odd3x5", 0.2)])
def test_all_at_once(config: str, stall_probability: float) -> None:
    jobs = some_jobs(config, 15, seed=1000)
    machine = Machine(config, jobs, 4, Memory(stall_probability=stall_probability, seed=3))
    with machine.transport:
        for index in range(len(jobs)):
            machine.place(index, interrupt=index == len(jobs) - 1)
        machine["RING_TAIL"] = len(jobs)
        machine.transport.wait_interrupt(60)
        assert machine["RING_HEAD"] == len(jobs)
        assert machine["INTERRUPT"] == 1
        assert machine["STATUS"] & 0b11 == 0
        machine.check()
        # The table has when each was complete, in order; the last one ended the busy time.
        cycles = [machine.entry(index)["cycles"] for index in range(len(jobs))]
        assert cycles == sorted(set(cycles))
        assert cycles[-1] == machine.transport.read_register(counter_offset("cycles"))
        assert not any(machine.entry(index)["nonfinite"] or machine.entry(index)["overflow"] for index in range(len(jobs)))


def test_a_small_ring_that_is_filled_while_it_runs() -> None:
    jobs = some_jobs("tiny", MOST_JOBS, seed=2000)
    machine = Machine("tiny", jobs, 2, Memory(read_latency_cycles=20, stall_probability=0.1))
    random = np.random.default_rng(1)
    with machine.transport as transport:
        tail = 0
        while tail < len(jobs):
            room = 4 - (tail - machine["RING_HEAD"])
            for _ in range(min(int(random.integers(room + 1)), len(jobs) - tail)):
                machine.place(tail, interrupt=True)
                tail += 1
            machine["RING_TAIL"] = tail
            transport.step(int(random.integers(1, 5000)))
            assert transport.cycle < 10_000_000
        while machine["RING_HEAD"] != len(jobs):
            machine["INTERRUPT"] = 1
            transport.wait_interrupt(60)
        machine.check()


def test_a_full_ring_and_more() -> None:
    """As many jobs as the ring holds are right, also with another doorbell in the midst; one more is an error."""
    jobs = some_jobs("tiny", 4, seed=3000)
    machine = Machine("tiny", jobs, 2, Memory())
    with machine.transport as transport:
        for index in range(4):
            machine.place(index, interrupt=index == 3)
        machine["RING_TAIL"] = 4
        transport.step(50)
        machine["RING_TAIL"] = 4
        transport.wait_interrupt(60)
        machine.check()
        machine["INTERRUPT"] = 3
        for tail in (4 + 5, 0xFFFF):
            # Nobody asks for more than four, nor backwards.
            machine["RING_TAIL"] = tail
            transport.wait_interrupt(60, max_cycles=1000)
            assert Cause(machine["ERROR_CAUSE"]) is Cause.RING
            assert (machine["ERROR_ADDRESS_LOW"], machine["ERROR_JOB"]) == (tail, machine["RING_HEAD"])
            assert machine["STATUS"] & 0b11 == 0b10
            # No doorbell is taken now.
            machine["RING_TAIL"] = 4
            assert machine["RING_TAIL"] == tail
            machine["CONTROL"] = 1
            while machine["STATUS"]:
                transport.step(10)
            assert machine["RING_TAIL"] == machine["RING_HEAD"] == 0
            machine["RING_TAIL"] = 0
        machine.check_memory()
        machine["COUNTERS_CLEAR"] = 1
        machine["RING_TAIL"] = 4
        transport.wait_interrupt(60)
        machine.check()

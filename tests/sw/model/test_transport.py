"""Model device seen through its registers and memory, as a driver sees it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.errors import DeviceClosedError, RuleError
from fusemax.model.bitexact import attention
from fusemax.model.cycles import ring_cycles
from fusemax.model.transport import ModelTransport
from fusemax.spec import (
    CONFIGS,
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_MAGIC,
    IDENTITY,
    INTERFACE_VERSION,
    Cause,
    counter_offset,
    register,
)

TINY = CONFIGS["tiny"]
MEMORY_BYTES = 1 << 16
RING, PROGRAM, Q, K, V, OUT = 0x400, 0x1000, 0x2000, 0x3000, 0x4000, 0x5000
E, F, QUERIES, KEYS = 3, 5, 6, 9
SCALE = np.float32(0.75)


class Machine:
    """A model device with one head of queries, keys and values in its memory."""

    def __init__(self) -> None:
        self.transport = ModelTransport(TINY, MEMORY_BYTES)
        self.program = fusemax.compile(head_dim=E, value_dim=F, config=TINY)
        self.store(PROGRAM, np.frombuffer(self.program.words_bytes, np.uint8))
        self.bits = {}
        for name, address, shape, seed in (("q", Q, (QUERIES, E), 1), ("k", K, (KEYS, E), 2), ("v", V, (KEYS, F), 3)):
            self.bits[name] = np.random.default_rng(seed).standard_normal(shape).astype(ml_dtypes.bfloat16).view(np.uint16)
            for row, data in enumerate(self.bits[name]):
                self.store(address + 32 * row, data.view(np.uint8))
        self.write("RING_BASE_LOW", RING)
        self.write("RING_SIZE_LOG2", 1)
        self.write("INTERRUPT_ENABLE", 3)

    def read(self, name: str) -> int:
        return self.transport.read_register(register(name).offset)

    def write(self, name: str, value: int) -> None:
        self.transport.write_register(register(name).offset, value)

    def store(self, address: int, data: np.ndarray) -> None:
        self.transport.memory[address : address + len(data)] = data

    def counter(self, name: str) -> int:
        low = self.transport.read_register(counter_offset(name))
        return low | self.transport.read_register(counter_offset(name) + 4) << 32

    def descriptor(self, place: int = 0, **fields: int) -> dict[str, int]:
        """Write the descriptor of the head, with other ``fields``, at a place of the ring."""
        values = {
            "magic": DESCRIPTOR_MAGIC,
            "interrupt": 1,
            "program_tag": self.program.tag,
            "program_address": PROGRAM,
            "ii": self.program.ii,
            "query_slots": 4,
            "e": E,
            "f": F,
            "scale": int(SCALE.view(np.uint32)),
            "heads": 1,
            "batch": 1,
            "key_tiles": 3,
            "last_keys": 1,
            "last_queries": 2,
            "groups": 1,
            "large_groups": 1,
            "group_tiles": 2,
            "output_slots": 2,
            "group_iterations": 6,
            **{f"{name}_address": address for name, address in (("q", Q), ("k", K), ("v", V), ("o", OUT))},
            **{f"{name}_row_stride": 32 for name in "qkvo"},
        }
        image = DESCRIPTOR.pack(values | fields)
        self.store(RING + 256 * place, np.frombuffer(image.to_bytes(DESCRIPTOR_BYTES, "little"), np.uint8))
        return DESCRIPTOR.unpack(image)

    def expected_time(self, *jobs: dict[str, int], loaded: bool = False) -> dict[str, int]:
        """Counters that depend on time, after jobs of the same call."""
        state = (self.program.tag, jobs[0]["float32_out"]) if loaded else None
        counts = ring_cycles(TINY, {self.program.tag: self.program}, jobs, loaded=state).values
        return {
            name: counts[name] for name in ("cycles", "slots_empty", "stall_q", "stall_k", "stall_v", "stall_output", "idle")
        }

    def expected(self, *, float32_out: bool = False) -> np.ndarray:
        return attention(TINY, self.bits["q"], self.bits["k"], self.bits["v"], SCALE, float32_out).out_bits

    def output(self, address: int = OUT, dtype: type = np.uint16) -> np.ndarray:
        rows = self.transport.memory[address : address + 32 * QUERIES].reshape(QUERIES, 32)
        return np.ascontiguousarray(rows[:, : F * np.dtype(dtype).itemsize]).view(dtype)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_identity_registers(machine: Machine) -> None:
    assert machine.read("IDENTITY") == IDENTITY
    assert machine.read("VERSION") == INTERFACE_VERSION
    shape, limits = register("SHAPE").fields, register("LIMITS").fields
    assert shape is not None
    assert limits is not None
    assert shape.unpack(machine.read("SHAPE")) == {"rows": 4, "columns": 4, "bus_bytes": 8, "contexts": 3}
    assert limits.unpack(machine.read("LIMITS")) == {"max_e": 64, "max_f": 64, "query_tiles": 4, "pe_latency": 4}
    machine.write("IDENTITY", 0)
    assert machine.read("IDENTITY") == IDENTITY


@pytest.mark.parametrize("float32_out", [False, True])
def test_job(machine: Machine, float32_out: bool) -> None:
    machine.descriptor(float32_out=int(float32_out))
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("INTERRUPT") == 1
    assert machine.read("RING_HEAD") == 1
    assert machine.read("STATUS") == 0
    dtype = np.uint32 if float32_out else np.uint16
    np.testing.assert_array_equal(machine.output(dtype=dtype), machine.expected(float32_out=float32_out))
    machine.write("INTERRUPT", 1)
    assert machine.read("INTERRUPT") == 0


def test_rows_end_with_the_head_dim(machine: Machine) -> None:
    machine.transport.memory[OUT : OUT + 32 * QUERIES] = 0xAA
    machine.descriptor()
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert (machine.transport.memory[OUT : OUT + 32 * QUERIES].reshape(QUERIES, 32)[:, 2 * F :] == 0xAA).all()


def test_polling_works_too(machine: Machine) -> None:
    machine.write("INTERRUPT_ENABLE", 0)
    machine.descriptor(interrupt=0)
    machine.write("RING_TAIL", 1)
    for _ in range(10):
        if not machine.read("STATUS") & 1:
            break
    assert machine.read("RING_HEAD") == 1
    np.testing.assert_array_equal(machine.output(), machine.expected())


def test_heads_and_batch_entries_are_found_by_strides(machine: Machine) -> None:
    """Two batch entries of three heads, all of the same queries and keys, each with an output of its own."""
    machine.descriptor(heads=3, batch=2, o_head_stride=0x200, o_batch_stride=0x800)
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    for entry in range(2):
        for head in range(3):
            np.testing.assert_array_equal(machine.output(OUT + 0x800 * entry + 0x200 * head), machine.expected())
    assert machine.counter("tiles") == 36


def test_counters(machine: Machine) -> None:
    job = machine.descriptor()
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    ii, stages = machine.program.ii, machine.program.stages
    time = machine.expected_time(job)
    # Without any wait it would take six tiles and the rest of the last one.
    assert time["cycles"] > (6 + stages - 1) * ii
    assert time["slots_empty"] == (6 + stages - 1) * ii - 6 * (E + F + 2)
    assert min(time["stall_q"], time["stall_k"], time["stall_v"], time["idle"]) > 0
    assert {name: machine.counter(name) for name, _ in fusemax.spec.COUNTERS} == {
        **time,
        "jobs": 1,
        "tiles": 6,
        "slots_qk": 6 * E,
        "slots_exp": 6,
        "slots_sum": 6,
        "slots_slnv": 6 * F,
        "slots_max": 6,
        # A descriptor, the program, and rows of bus words of 8 bytes; E takes one, F two.
        "bytes_read": 192 + -(-4 * ii // 8) * 8 + 8 * (QUERIES + KEYS + 2 * KEYS),
        "bytes_written": 2 * F * QUERIES,
    }
    machine.write("COUNTERS_CLEAR", 1)
    assert machine.counter("cycles") == 0


def test_keys_are_read_once_per_group_and_a_program_once(machine: Machine) -> None:
    machine.descriptor(0)
    machine.descriptor(1, groups=2, large_groups=2, group_tiles=1, group_iterations=3)
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    before = machine.counter("bytes_read")
    machine.write("INTERRUPT", 3)
    machine.write("RING_TAIL", 2)
    machine.transport.wait_interrupt(10, None)
    assert machine.counter("bytes_read") - before == 192 + 8 * (QUERIES + 2 * 3 * KEYS)
    assert machine.counter("jobs") == 2


def test_another_output_format_reads_the_program_again(machine: Machine) -> None:
    jobs = machine.descriptor(0), machine.descriptor(1, float32_out=1)
    machine.write("RING_TAIL", 2)
    while machine.read("RING_HEAD") != 2:
        pass
    ii = machine.program.ii
    assert machine.counter("bytes_read") == 2 * (192 + 4 * ii + ii % 2 * 4 + 8 * (QUERIES + 3 * KEYS))
    assert machine.counter("cycles") == machine.expected_time(*jobs)["cycles"]


def test_a_program_that_is_there_saves_time(machine: Machine) -> None:
    job = machine.descriptor()
    for tail, loaded in ((1, False), (2, True)):
        machine.descriptor(1)
        machine.write("COUNTERS_CLEAR", 1)
        machine.write("RING_TAIL", tail)
        machine.transport.wait_interrupt(10, None)
        machine.write("INTERRUPT", 3)
        assert machine.counter("cycles") == machine.expected_time(job, loaded=loaded)["cycles"]
    machine.write("CONTROL", 1)
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.counter("cycles") == machine.expected_time(job)["cycles"] > machine.expected_time(job, loaded=True)["cycles"]


def test_time_of_what_was_done_before_an_error(machine: Machine) -> None:
    job = machine.descriptor(0)
    machine.descriptor(1, magic=0)
    machine.write("RING_TAIL", 2)
    while not machine.read("ERROR_CAUSE"):
        machine.read("STATUS")
    assert machine.counter("jobs") == 1
    assert machine.counter("cycles") == machine.expected_time(job)["cycles"]


def test_ring_wraps_around(machine: Machine) -> None:
    for job in range(5):
        machine.transport.memory[OUT : OUT + 32 * QUERIES] = 0
        machine.descriptor(job % 2)
        machine.write("RING_TAIL", job + 1)
        machine.transport.wait_interrupt(10, None)
        machine.write("INTERRUPT", 3)
        np.testing.assert_array_equal(machine.output(), machine.expected())
    assert machine.read("RING_HEAD") == 5


@pytest.mark.parametrize(
    "fields",
    [
        {"magic": 0},
        {"e": 65},
        {"f": 0},
        {"ii": 0},
        {"heads": 0},
        {"batch": 0},
        {"key_tiles": 0},
        {"last_keys": 5},
        {"last_queries": 0},
        {"groups": 0},
        {"large_groups": 2},
        {"large_groups": 0},
        {"group_tiles": 0},
        {"group_tiles": 5, "group_iterations": 15, "query_slots": 4},
        {"groups": 2, "group_tiles": 1, "group_iterations": 3},
        {"query_slots": 1},
        {"query_slots": 65},
        {"output_slots": 0},
        {"output_slots": 33},
        {"group_iterations": 5},
    ],
    ids=str,
)
def test_wrong_descriptors_stop_the_machine(machine: Machine, fields: dict[str, int]) -> None:
    machine.descriptor(**fields)
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("INTERRUPT") == 2
    assert machine.read("STATUS") == 2
    assert machine.read("ERROR_CAUSE") == Cause.DESCRIPTOR
    assert machine.read("ERROR_ADDRESS_LOW") == RING
    assert machine.read("RING_HEAD") == 0


@pytest.mark.parametrize(
    ("fields", "cause", "address"),
    [
        ({"q_address": MEMORY_BYTES - 64}, Cause.READ, MEMORY_BYTES),
        ({"v_address": 5 << 32}, Cause.READ, 5 << 32),
        ({"program_tag": 1, "program_address": MEMORY_BYTES - 8}, Cause.READ, MEMORY_BYTES),
        ({"o_address": MEMORY_BYTES - 32}, Cause.WRITE, MEMORY_BYTES),
    ],
)
def test_addresses_outside_the_memory_stop_the_machine(
    machine: Machine, fields: dict[str, int], cause: Cause, address: int
) -> None:
    machine.descriptor(**fields)
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("ERROR_CAUSE") == cause
    assert machine.read("ERROR_ADDRESS_LOW") | machine.read("ERROR_ADDRESS_HIGH") << 32 == address


def test_only_a_reset_leaves_an_error(machine: Machine) -> None:
    machine.descriptor(magic=0)
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    machine.descriptor()
    machine.write("INTERRUPT", 3)
    with pytest.raises(TimeoutError, match="no interrupt is under way"):
        machine.transport.wait_interrupt(10, None)
    machine.write("CONTROL", 1)
    assert machine.read("STATUS") == 0
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    np.testing.assert_array_equal(machine.output(), machine.expected())


def test_flags_stick_until_they_are_cleared(machine: Machine) -> None:
    machine.store(K, np.array([0x7F80], np.uint16).view(np.uint8))
    machine.descriptor()
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    status = register("STATUS").fields
    assert status is not None
    assert status.unpack(machine.read("STATUS"))["nonfinite"] == 1
    machine.write("FLAGS_CLEAR", 1)
    assert machine.read("STATUS") == 0


def test_a_program_that_hardware_could_not_run_is_refused(machine: Machine) -> None:
    machine.store(PROGRAM, np.zeros(4, np.uint8))
    machine.descriptor(program_tag=7)
    machine.write("RING_TAIL", 1)
    with pytest.raises(RuleError, match=r"^maximum, slot 0"):
        machine.transport.wait_interrupt(10, None)


def test_progress_and_timeout(machine: Machine) -> None:
    machine.descriptor(heads=4)
    machine.write("RING_TAIL", 1)
    seen = []
    machine.transport.wait_interrupt(10, lambda: seen.append(machine.counter("tiles")))
    assert seen == [6, 12, 18, 24, 24]
    machine.write("INTERRUPT", 3)
    machine.write("RING_TAIL", 2)
    with pytest.raises(TimeoutError, match=r"no interrupt within 0.0 s"):
        machine.transport.wait_interrupt(0.0, None)


def test_closed(machine: Machine) -> None:
    machine.transport.close()
    with pytest.raises(DeviceClosedError, match="must be open"):
        machine.read("STATUS")
    with pytest.raises(DeviceClosedError, match="must be open"):
        _ = machine.transport.memory

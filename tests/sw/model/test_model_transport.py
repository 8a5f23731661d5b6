"""Model device seen through its registers and memory, as a driver sees it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.errors import DeviceClosedError, RuleError
from fusemax.model.bitexact import Segment, attention, attention_head
from fusemax.model.cycles import ring_cycles
from fusemax.model.descriptor_check import settings
from fusemax.model.model_transport import ModelTransport
from fusemax.spec import (
    CONFIGS,
    DESCRIPTOR,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_MAGIC,
    IDENTITY,
    INTERFACE_VERSION,
    JOB_ENTRY,
    Cause,
    Descriptor,
    counter_offset,
    job_entry_offset,
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
        self.store(PROGRAM - 16, np.frombuffer(self.program.to_bytes(), np.uint8))
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

    def descriptor(self, place: int = 0, **fields: int) -> Descriptor:
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
            "mask_lo": -(1 << 30),
            "mask_hi": 1 << 30,
            "share": 1,
            "tile_positions": 4,
            "tile_phase": 0,
            "tile_span": 3,
            **{f"{name}_address": address for name, address in (("q", Q), ("k", K), ("v", V), ("o", OUT))},
            **{f"{name}_row_stride": 32 for name in "qkvo"},
        }
        image = DESCRIPTOR.pack(values | fields)
        self.store(RING + 256 * place, np.frombuffer(image.to_bytes(DESCRIPTOR_BYTES, "little"), np.uint8))
        return Descriptor.unpack(image)

    def expected_time(self, *jobs: Descriptor, loaded: bool = False) -> dict[str, int]:
        """Counters that depend on time, after jobs of the same call."""
        state = settings(jobs[0]) if loaded else None
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
    assert machine.read("OPTIONS") == 0
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
        "tiles_skipped": 0,
        "slots_qk": 6 * E,
        "slots_exp": 6,
        "slots_sum": 6,
        "slots_slnv": 6 * F,
        "slots_max": 6,
        "slots_function": 0,
        # A descriptor, the program with its header, and rows of bus words of 8 bytes; E takes one, F two.
        "bytes_read": DESCRIPTOR_BYTES + 16 + -(-4 * ii // 8) * 8 + 8 * (QUERIES + KEYS + 2 * KEYS),
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
    assert machine.counter("bytes_read") - before == DESCRIPTOR_BYTES + 8 * (QUERIES + 2 * 3 * KEYS)
    assert machine.counter("jobs") == 2


def test_another_output_format_reads_the_program_again(machine: Machine) -> None:
    jobs = machine.descriptor(0), machine.descriptor(1, float32_out=1)
    machine.write("RING_TAIL", 2)
    while machine.read("RING_HEAD") != 2:
        pass
    ii = machine.program.ii
    assert machine.counter("bytes_read") == 2 * (DESCRIPTOR_BYTES + 16 + 4 * ii + ii % 2 * 4 + 8 * (QUERIES + 3 * KEYS))
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
        {"share": 0},
        {"share": 257},
        {"share": 2},
        {"tile_positions": 3},
        {"tile_phase": 1},
        {"tile_span": 2},
        {"mask_lo": -(1 << 30) - 1},
        {"mask_hi": (1 << 30) + 1},
        {"mask_lo": 3, "mask_hi": 3},
        {"mask_hi": 0},
        {"mask_lo": 4},
        {"fixed_reference": 1},
        {"spare_hold": 1},
        {"continued": 1},
        {"continues": 1, "heads": 2},
        {"continues": 1, "batch": 2},
        {"continues": 1, "groups": 2, "large_groups": 2, "group_tiles": 1, "group_iterations": 3},
        {"q_address": Q + 4},
        {"o_address": 1 << 40},
        {"program_address": PROGRAM + 4},
        {"k_row_stride": 12},
        {"q_share_stride": 2},
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
        # The header in front of it is at the end of all addresses.
        ({"program_tag": 1, "program_address": 0}, Cause.READ, (1 << TINY.address_bits) - 16),
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


def test_reserved_flags_must_be_zero(machine: Machine) -> None:
    machine.descriptor()
    machine.transport.memory[RING + 3] |= 0x80
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("ERROR_CAUSE") == Cause.DESCRIPTOR


@pytest.mark.parametrize("offset", [0, 4, 6, 8, 10, 12])
def test_a_program_of_another_header_is_refused(machine: Machine, offset: int) -> None:
    """Magic, version, ii, e, f and tag of the header in front of the microwords."""
    machine.descriptor(0)
    machine.transport.memory[PROGRAM - 16 + offset] ^= 1
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("ERROR_CAUSE") == Cause.PROGRAM
    assert machine.read("ERROR_ADDRESS_LOW") == PROGRAM - 16
    assert machine.read("ERROR_JOB") == 0


@pytest.mark.parametrize(
    ("window", "first", "last", "address"),
    [
        ("READ", Q, K + 0x800, V),
        ("READ", 0, V + 32 * 3 + 7, V + 32 * 3),
        ("READ", PROGRAM, 1 << 20, RING),
        ("WRITE", OUT + 32, OUT + 0x1000, OUT),
        ("WRITE", OUT, OUT + 32 * 4 + 1, OUT + 32 * 4),
    ],
)
def test_windows(machine: Machine, window: str, first: int, last: int, address: int) -> None:
    """A row of 10 bytes is a burst of two bus words; a word belongs to the window if a byte of it does."""
    if window == "READ" and first == Q:
        machine.write("READ_WINDOW_FIRST_LOW", RING)
        machine.write("READ_WINDOW_LAST_LOW", V - 1)
    else:
        machine.write(f"{window}_WINDOW_FIRST_LOW", first)
        machine.write(f"{window}_WINDOW_LAST_LOW", last)
    machine.write(f"{window}_WINDOW_LAST_HIGH", 0)
    machine.transport.memory[OUT : OUT + 0x1000] = 0xAA
    machine.descriptor()
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("ERROR_CAUSE") == Cause.WINDOW
    assert machine.read("ERROR_ADDRESS_LOW") == address
    if window == "WRITE":
        assert (machine.transport.memory[address : OUT + 0x1000] == 0xAA).all()


def test_windows_as_large_as_the_job(machine: Machine) -> None:
    for name, value in (
        *(("READ_WINDOW_FIRST_LOW", RING), ("READ_WINDOW_LAST_LOW", V + 32 * KEYS - 17), ("READ_WINDOW_LAST_HIGH", 0)),
        *(("WRITE_WINDOW_FIRST_LOW", OUT), ("WRITE_WINDOW_LAST_LOW", OUT + 32 * QUERIES - 17), ("WRITE_WINDOW_LAST_HIGH", 0)),
    ):
        machine.write(name, value)
    machine.descriptor()
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    np.testing.assert_array_equal(machine.output(), machine.expected())
    # Bits that an address does not have are zero; a reset leaves windows alone.
    machine.write("READ_WINDOW_LAST_HIGH", 0xFFFF_FFFF)
    machine.write("CONTROL", 1)
    assert machine.read("READ_WINDOW_LAST_HIGH") == 0xFF
    assert machine.read("WRITE_WINDOW_FIRST_LOW") == OUT


def test_too_many_jobs_for_the_ring(machine: Machine) -> None:
    machine.write("RING_TAIL", 3)
    assert machine.read("ERROR_CAUSE") == Cause.RING
    assert machine.read("ERROR_ADDRESS_LOW") == 3
    assert machine.read("INTERRUPT") == 2
    machine.write("RING_TAIL", 1)
    assert machine.read("RING_TAIL") == 3


def test_abort(machine: Machine) -> None:
    machine.descriptor(heads=4)
    machine.write("RING_TAIL", 1)
    machine.read("STATUS")
    machine.write("CONTROL", 2)
    assert machine.read("ERROR_CAUSE") == Cause.ABORT
    assert machine.read("STATUS") == 2
    machine.write("CONTROL", 1)
    assert machine.read("ERROR_CAUSE") == 0
    machine.descriptor()
    machine.write("RING_TAIL", 1)
    machine.transport.wait_interrupt(10, None)
    np.testing.assert_array_equal(machine.output(), machine.expected())


def test_table_of_jobs(machine: Machine) -> None:
    """Flags since the job before; the cycles of the last job are known when the machine is idle."""
    infinite = np.array([0x7F80], np.uint16).view(np.uint8)
    machine.descriptor(0)
    machine.descriptor(1, k_address=K + 0x800)
    for row in range(KEYS):
        machine.store(K + 0x800 + 32 * row, infinite)
    machine.write("RING_TAIL", 2)
    while machine.read("RING_HEAD") != 2:
        pass
    entries = []
    for job in range(2):
        words = [machine.transport.read_register(job_entry_offset(job) + half) for half in (0, 4)]
        entries.append(JOB_ENTRY.unpack(words[0] | words[1] << 32))
    assert [entry["nonfinite"] for entry in entries] == [0, 1]
    assert entries[1]["cycles"] == machine.counter("cycles") > 0


# -- what a job can ask for ----------------------------------------------------------------------------------------------


def segment(machine: Machine, start: int, stop: int, lo: np.ndarray, hi: np.ndarray) -> Segment:
    return Segment(machine.bits["k"][start:stop], machine.bits["v"][start:stop], lo, hi)


def run(machine: Machine, jobs: int = 1) -> None:
    machine.write("RING_SIZE_LOG2", 2)
    machine.write("RING_TAIL", jobs)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("STATUS") == 0


def test_mask(machine: Machine) -> None:
    machine.descriptor(mask_lo=1, mask_hi=4)
    run(machine)
    position = np.arange(QUERIES)
    expected = attention(TINY, *machine.bits.values(), SCALE, False, 1 + position, 4 + position).out_bits
    np.testing.assert_array_equal(machine.output(), expected)
    # Positions 0 to 3 of the first query tile see keys 1 to 6, those of the second, counted as four, 5 to 10: of tiles of 4.
    assert (machine.counter("tiles"), machine.counter("tiles_skipped")) == (4, 2)


def test_a_query_tile_that_sees_no_key_is_worked_on_once(machine: Machine) -> None:
    machine.transport.memory[OUT : OUT + 32 * QUERIES] = 0xAA
    machine.descriptor(mask_lo=0, mask_hi=2, key_tiles=1, last_keys=4, group_iterations=2)
    run(machine)
    position = np.arange(QUERIES)
    machine.bits["k"], machine.bits["v"] = machine.bits["k"][:4], machine.bits["v"][:4]
    expected = attention(TINY, *machine.bits.values(), SCALE, False, position, 2 + position).out_bits
    np.testing.assert_array_equal(machine.output(), expected)
    assert expected[:4].any(axis=1).all() and not expected[4:].any()
    assert (machine.counter("tiles"), machine.counter("tiles_skipped")) == (2, 0)


def test_shared_heads(machine: Machine) -> None:
    """Six rows are three positions of two heads: rows of a position are 0x60 apart, positions 32."""
    for position in range(3):
        for shared in range(2):
            row = machine.bits["q"][2 * position + shared]
            machine.store(Q + 0x800 + 32 * position + 0x60 * shared, row.view(np.uint8))
    machine.descriptor(
        q_address=Q + 0x800, q_share_stride=0x60, o_share_stride=0x60, share=2, tile_positions=2, tile_span=2, mask_hi=7
    )
    run(machine)
    expected = attention(TINY, *machine.bits.values(), SCALE, False, None, 7 + np.arange(6) // 2).out_bits
    rows = machine.output().reshape(2, 3, F).swapaxes(0, 1).reshape(6, F)
    np.testing.assert_array_equal(rows, expected)


def test_row_factors(machine: Machine) -> None:
    scale = np.random.default_rng(4).uniform(0.2, 2, QUERIES).astype(np.float32)
    for row in range(QUERIES):
        machine.store(Q + 32 * row, np.concatenate([scale[row : row + 1].view(np.uint8), np.full(4, 0x55, np.uint8)]))
        machine.store(Q + 32 * row + 8, machine.bits["q"][row].view(np.uint8))
    machine.descriptor(row_scale=1, scale=0)
    run(machine)
    expected = attention(TINY, *machine.bits.values(), scale, False).out_bits
    np.testing.assert_array_equal(machine.output(), expected)
    ii = machine.program.ii
    assert machine.counter("bytes_read") == DESCRIPTOR_BYTES + 16 + 4 * ii + ii % 2 * 4 + 8 * (2 * QUERIES + 3 * KEYS)


def test_numerators_in_bfloat16(machine: Machine) -> None:
    machine.descriptor(0, raw_out=1, float32_out=1, interrupt=0)
    machine.descriptor(1, raw_out=1, o_address=OUT + 0x400)
    run(machine, 2)
    rounded = machine.output(dtype=np.float32).astype(ml_dtypes.bfloat16)
    assert (rounded != 0).all()
    np.testing.assert_array_equal(machine.output(OUT + 0x400), rounded.view(np.uint16))


@pytest.mark.parametrize("raw", [False, True])
def test_states(machine: Machine, raw: bool) -> None:
    keys = {"key_tiles": 2, "last_keys": 4, "group_iterations": 4}
    machine.descriptor(float32_out=1, state_out=1, raw_out=int(raw), mask_hi=0, **keys)
    machine.transport.memory[OUT : OUT + 32 * QUERIES] = 0xAA
    run(machine)
    head = attention_head(TINY, machine.bits["q"], [segment(machine, 0, 8, None, np.arange(QUERIES))], SCALE)
    rows = machine.transport.memory[OUT : OUT + 32 * QUERIES].reshape(QUERIES, 32)
    np.testing.assert_array_equal(rows[:, :4].copy().view("<i4")[:, 0], head.reference)
    np.testing.assert_array_equal(rows[:, 4:8].copy().view(np.uint32)[:, 0], head.denominator_bits())
    np.testing.assert_array_equal(rows[:, 8:28].copy().view(np.uint32), head.output(True, raw))
    assert (rows[:, 28:] == 0xAA).all()
    assert machine.counter("bytes_written") == QUERIES * (8 + 4 * F)


def test_chain(machine: Machine) -> None:
    """Three jobs, one result; only the last one completes, and counts as one."""
    machine.descriptor(0, continues=1, key_tiles=1, last_keys=2, group_iterations=2, o_address=0)
    keys = {"k_address": K + 64, "v_address": V + 64}
    machine.descriptor(
        1, continues=1, continued=1, key_tiles=1, last_keys=3, group_iterations=2, q_address=0, mask_lo=1, mask_hi=3, **keys
    )
    keys = {"k_address": K + 32 * 5, "v_address": V + 32 * 5}
    machine.descriptor(2, continued=1, key_tiles=1, last_keys=4, group_iterations=2, mask_hi=2, **keys)
    machine.write("RING_SIZE_LOG2", 2)
    machine.write("RING_TAIL", 2)
    with pytest.raises(TimeoutError, match="no interrupt is under way"):
        machine.transport.wait_interrupt(10, None)
    assert (machine.read("RING_HEAD"), machine.read("STATUS")) == (0, 1)
    run(machine, 3)
    assert machine.read("RING_HEAD") == 3
    p = np.arange(QUERIES)
    segments = [
        segment(machine, 0, 2, None, None),
        segment(machine, 2, 5, 1 + p, 3 + p),
        segment(machine, 5, 9, None, 2 + p),
    ]
    head = attention_head(TINY, machine.bits["q"], segments, SCALE)
    np.testing.assert_array_equal(machine.output(), head.output(False))
    # Nothing is left out in a chain.
    assert [machine.counter(name) for name in ("jobs", "tiles", "tiles_skipped")] == [1, 6, 0]
    ii = machine.program.ii
    assert machine.counter("bytes_read") == 3 * DESCRIPTOR_BYTES + 16 + 4 * ii + ii % 2 * 4 + 8 * (QUERIES + 3 * KEYS)


@pytest.mark.parametrize(
    "fields",
    [
        {"continued": 0},
        {"share": 2, "tile_positions": 2, "tile_span": 2},
        {"last_queries": 1},
        {"group_tiles": 1, "group_iterations": 1},
        {"float32_out": 1},
        {"query_slots": 5},
    ],
    ids=str,
)
def test_a_chain_must_go_on_as_it_began(machine: Machine, fields: dict[str, int]) -> None:
    part = {"key_tiles": 1, "group_iterations": 2}
    machine.descriptor(0, continues=1, **part)
    machine.descriptor(1, **({"continued": 1} | part | fields))
    machine.write("RING_TAIL", 2)
    machine.transport.wait_interrupt(10, None)
    assert machine.read("ERROR_CAUSE") == Cause.DESCRIPTOR
    assert machine.read("ERROR_ADDRESS_LOW") == RING + 256
    assert machine.read("ERROR_JOB") == 1
    assert machine.read("RING_HEAD") == 0


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
    program = fusemax.Program(TINY, E, F, (0,) * machine.program.ii)
    machine.store(PROGRAM - 16, np.frombuffer(program.to_bytes(), np.uint8))
    machine.descriptor(program_tag=program.tag)
    machine.write("RING_TAIL", 1)
    with pytest.raises(RuleError, match=r"^mask, slot 0: MASK must be there once"):
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

"""The C driver: its descriptors are the host's, and it runs jobs, waits and reports faults on the model."""

from __future__ import annotations

import ctypes
import re
from dataclasses import replace

import numpy as np
import pytest
from c_driver import STATUS, Array, Driver, Fault, Job, JobEnd, Program, Settings, Window, compile_c
from hypothesis import given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.integration.write import driver_sources
from fusemax.model.descriptor_check import is_valid
from fusemax.model.model_transport import ModelTransport
from fusemax.planning.descriptors import MAX_SHARE, describe
from fusemax.planning.masks import UNBOUNDED
from fusemax.planning.memory_map import Buffer, Shape, place_arrays
from fusemax.spec import (
    CONFIGS,
    DESCRIPTOR_BYTES,
    DESCRIPTOR_STRIDE_BYTES,
    IDENTITY,
    INTERFACE_VERSION,
    Cause,
    Config,
    Descriptor,
    counter_offset,
    register,
)

MACHINES = [
    CONFIGS["tiny"],
    CONFIGS["base"],
    CONFIGS["paper"],
    Config(name="odd", rows=3, columns=5, query_tiles=2, max_e=40, max_f=24, bus_bits=32),
    Config(name="flat", rows=2, columns=7, max_e=24, max_f=40, contexts=2, pe_latency=2, query_tiles=1),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Driver:
    directory = tmp_path_factory.mktemp("driver")
    compile_c(directory, "-shared", "-fPIC", "-o", "driver.so", "fusemax_driver.c")
    return Driver(directory / "driver.so")


def opened(driver: Driver, config: Config):
    """The driver's machine of a configuration, which is only looked at."""
    device = ModelTransport(config, 1 << 13)
    status, machine = driver.open(device.read_register, device.write_register)
    assert status == "OK"
    return machine


def strides(buffer: Buffer) -> Array:
    return Array(buffer.address, buffer.row_stride, buffer.share_stride, buffer.head_stride, buffer.batch_stride)


def job_of(shape: Shape, program: ctypes.Structure, buffers: dict[str, Buffer], **fields: object) -> ctypes.Structure:
    common = {"program_address": 1 << 12, "scale": 0.3, "interrupt": 1, "mask_lo": -UNBOUNDED, "mask_hi": UNBOUNDED}
    sizes = {name: getattr(shape, name) for name in ("batch", "heads", "share", "queries", "keys")}
    arrays = {name: strides(buffer) for name, buffer in buffers.items()}
    job = Job(**{**common, **sizes, **arrays, "float32_out": shape.out_dtype == "float32", **fields})
    job.program = ctypes.pointer(program)
    return job


# -- descriptors ---------------------------------------------------------------------------------------------------


def shapes(config: Config) -> st.SearchStrategy[Shape]:
    return st.builds(
        Shape,
        batch=st.integers(1, 3),
        heads=st.integers(1, 3),
        share=st.sampled_from([1, 1, 2, 3, 24]),
        queries=st.integers(1, 900),
        keys=st.integers(1, 900),
        e=st.integers(1, config.max_e),
        f=st.integers(1, config.max_f),
        out_dtype=st.sampled_from(["bfloat16", "float32"]),
    )


@pytest.mark.parametrize("config", MACHINES, ids=lambda config: config.name)
@settings(max_examples=60)
@given(data=st.data())
def test_descriptors_are_the_hosts(driver, config, data):
    """Byte for byte, with as many query tiles in a group as there is room for, and arrays where the host would put them."""
    shape = data.draw(shapes(config))
    machine = opened(driver, config)
    program = fusemax.compile(head_dim=shape.e, value_dim=shape.f, config=config)
    room = config.resident_query_tiles(shape.e, shape.f)
    assert driver.number("resident_rows", ctypes.byref(machine), shape.e, shape.f) == room * config.columns

    buffers = place_arrays(config, shape, 1 << 16)
    for name, buffer in buffers.items():
        share, rows, elements, element_bytes = shape.rows(name)
        packed = Array()
        size = driver.number(
            *("pack", ctypes.byref(machine), ctypes.byref(packed), ctypes.c_uint64(buffer.address), shape.heads, share, rows),
            *(elements, element_bytes, shape.batch),
        )
        assert (size, bytes(packed)) == (buffer.size, bytes(strides(buffer)))

    c_program = Program(program.ii, program.e, program.f, program.tag)
    descriptor = (ctypes.c_uint8 * DESCRIPTOR_BYTES)(*[0xAA] * DESCRIPTOR_BYTES)
    job = job_of(shape, c_program, buffers)
    assert driver.describe(ctypes.byref(machine), ctypes.byref(job), descriptor) == "OK"
    scale = np.float32(0.3 * np.log2(np.e))
    (expected,) = describe(config, shape, program, 1 << 12, buffers, scale, most_tiles=room)
    assert Descriptor.unpack(int.from_bytes(bytes(descriptor), "little")) == expected
    assert bytes(descriptor) == expected.pack().to_bytes(DESCRIPTOR_BYTES, "little")


@pytest.mark.parametrize("config", MACHINES[:1] + MACHINES[3:], ids=lambda config: config.name)
@settings(max_examples=300)
@given(data=st.data())
def test_masks_that_one_job_can_do(driver, config, data):
    """The driver makes a descriptor exactly if all rows are in one group and the machine takes it."""
    machine = opened(driver, config)
    shape = Shape(
        queries=data.draw(st.integers(1, 24)), keys=data.draw(st.integers(1, 24)), share=data.draw(st.integers(1, 6)), e=5, f=7
    )
    # Most about where the last query sees the last key, which is where a bound counts.
    last = shape.keys - shape.queries
    edge = st.one_of(st.just(UNBOUNDED), st.integers(-30, 30), st.integers(last - 6, last + 6))
    lo, hi = -data.draw(edge), data.draw(edge)
    program = fusemax.compile(head_dim=5, value_dim=7, config=config)
    buffers = place_arrays(config, shape, 1 << 16)
    job = job_of(shape, Program(program.ii, 5, 7, program.tag), buffers, mask_lo=lo, mask_hi=hi)
    descriptor = (ctypes.c_uint8 * DESCRIPTOR_BYTES)()
    status = driver.describe(ctypes.byref(machine), ctypes.byref(job), descriptor)
    if lo >= hi:
        assert status == "RANGE"
        return
    room = config.resident_query_tiles(5, 7)
    (whole,) = describe(config, shape, program, 1 << 12, buffers, most_tiles=room)
    takes = is_valid(config, replace(whole, mask_lo=lo, mask_hi=hi))
    masked = lo > -UNBOUNDED or hi < UNBOUNDED
    assert status == ("OK" if takes and (not masked or whole.groups == 1) else "SPLIT")


@pytest.mark.parametrize(
    "fields",
    [
        {"batch": 0},
        {"heads": 1 << 16},
        {"share": 257},
        {"queries": 0},
        {"queries": 1 << 31, "share": 2},
        {"keys": 0},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": 1e39},
        {"mask_lo": -UNBOUNDED - 1},
        {"mask_hi": UNBOUNDED + 1},
        {"program_address": 4},
        {"q": Array(4, 8)},
        {"k": Array(0, 4)},
        {"o": Array(0, 8, 0, 4), "heads": 2},
        {"v": Array(0, 8, 0, 0, 4), "batch": 2},
    ],
    ids=lambda fields: "-".join(fields),
)
def test_ranges(driver, fields):
    machine = opened(driver, CONFIGS["tiny"])
    shape = Shape(queries=3, keys=3, e=4)
    descriptor = (ctypes.c_uint8 * DESCRIPTOR_BYTES)()
    buffers = place_arrays(CONFIGS["tiny"], shape, 1 << 12)
    good = job_of(shape, Program(20, 4, 4, 0), buffers)
    assert driver.describe(ctypes.byref(machine), ctypes.byref(good), descriptor) == "OK"
    bad = job_of(shape, Program(20, 4, 4, 0), buffers, **fields)
    assert driver.describe(ctypes.byref(machine), ctypes.byref(bad), descriptor) == "RANGE"
    for e, f in ((65, 4), (4, 65), (0, 4)):
        large = job_of(shape, Program(20, e, f, 0), buffers)
        assert driver.describe(ctypes.byref(machine), ctypes.byref(large), descriptor) == "RANGE"


def test_strides_beyond_32_bits(driver):
    machine = opened(driver, CONFIGS["tiny"])
    packed = Array()

    def size(rows: int) -> int:
        return driver.number("pack", ctypes.byref(machine), ctypes.byref(packed), ctypes.c_uint64(0), 4, 1, rows, 64, 2, 8)

    # Rows of 128 bytes; the batch stride is that of four heads.
    assert size(1 << 22) == 1 << 34
    assert packed.batch_stride == 1 << 31
    assert size(1 << 23) == 0


# -- programs ------------------------------------------------------------------------------------------------------


def test_programs(driver):
    machine = opened(driver, CONFIGS["tiny"])
    program = fusemax.compile(head_dim=5, value_dim=7, config="tiny")
    image = program.to_bytes()
    found = Program()

    def read(data: bytes) -> str:
        return driver.read_program(ctypes.byref(machine), data, ctypes.c_size_t(len(data)), ctypes.byref(found))

    assert read(image) == "OK"
    assert (found.ii, found.e, found.f, found.tag) == (program.ii, 5, 7, program.tag)
    assert read(image[:-1]) == "PROGRAM"
    assert read(image[:15]) == "PROGRAM"
    assert read(b"\0" + image[1:]) == "PROGRAM"
    assert read(image[:4] + b"\1\0" + image[6:]) == "PROGRAM"
    assert read(replace_dims(image, 65, 7)) == "PROGRAM"
    assert read(replace_dims(image, 5, 0)) == "PROGRAM"


def replace_dims(image: bytes, e: int, f: int) -> bytes:
    return image[:8] + e.to_bytes(2, "little") + f.to_bytes(2, "little") + image[12:]


# -- the machine ---------------------------------------------------------------------------------------------------


class Board:
    """A model device and the driver's machine on it, started, with a program in memory."""

    def __init__(self, driver: Driver, ring_log2: int = 2, **fields: object) -> None:
        self.driver = driver
        self.config = CONFIGS["tiny"]
        self.device = ModelTransport(self.config, 1 << 15)
        self.memory = self.device.memory
        status, self.machine = driver.open(self.device.read_register, self.device.write_register)
        assert status == "OK"
        ring_bytes = DESCRIPTOR_STRIDE_BYTES << ring_log2
        window = Window(0, len(self.memory) - 1)
        self.settings = Settings(
            **{
                "ring": self.memory.ctypes.data,
                "ring_address": 0,
                "ring_size_log2": ring_log2,
                "read": window,
                "write": Window(ring_bytes, len(self.memory) - 1),
                "watchdog_cycles": 10_000,
                "interrupts": 3,
            }
            | fields
        )
        assert self.start() == "OK"
        self.program = fusemax.compile(head_dim=8, value_dim=8, config=self.config)
        image = np.frombuffer(self.program.to_bytes(), np.uint8)
        self.memory[0x1000 : 0x1000 + len(image)] = image
        self.shape = Shape(queries=5, keys=6, e=8, out_dtype="float32")
        self.buffers = place_arrays(self.config, self.shape, 0x2000)
        self.arrays = [
            np.random.default_rng(seed).standard_normal((length, 8)).astype(np.float32)
            for seed, length in ((1, 5), (2, 6), (3, 6))
        ]
        for name, array in zip("qkv", self.arrays, strict=True):
            bits = (array.view(np.uint32) >> 16).astype("<u2")
            place = self.buffers[name].address
            self.memory[place : place + bits.nbytes] = bits.view(np.uint8).reshape(-1)
        # What the machine sees: the upper halves.
        self.arrays = [(array.view(np.uint32) & 0xFFFF0000).view(np.float32) for array in self.arrays]

    def start(self) -> str:
        return self.driver.start(ctypes.byref(self.machine), ctypes.byref(self.settings), 5)

    def call(self, name: str, *arguments: object) -> str:
        return getattr(self.driver, name)(ctypes.byref(self.machine), *arguments)

    def descriptor(self, **fields: object):
        job = job_of(
            self.shape, Program(self.program.ii, 8, 8, self.program.tag), self.buffers, **{"program_address": 0x1010} | fields
        )
        descriptor = (ctypes.c_uint8 * DESCRIPTOR_BYTES)()
        assert self.call("describe", ctypes.byref(job), descriptor) == "OK"
        return descriptor

    def submit(self, descriptor: ctypes.Array) -> tuple[str, int]:
        number = ctypes.c_uint32(0xFFFF)
        return self.call("submit", descriptor, ctypes.byref(number)), number.value

    def output(self) -> np.ndarray:
        place = self.buffers["o"].address
        return self.memory[place : place + self.buffers["o"].size].view("<f4").reshape(5, 8)

    def expected(self) -> np.ndarray:
        with fusemax.open("model", "tiny") as device:
            return fusemax.attention(*self.arrays, scale=0.3, device=device, out_dtype="float32")


def test_a_job(driver):
    board = Board(driver)
    assert board.call("poll") == "OK"
    status, number = board.submit(board.descriptor())
    assert (status, number) == ("OK", 0)
    assert not board.output().any()
    board.driver.number("ring", ctypes.byref(board.machine))
    assert board.call("wait", number, 3) == "OK"
    np.testing.assert_array_equal(board.output(), board.expected())
    end = JobEnd()
    assert board.call("job_end", 0, ctypes.byref(end)) == "OK"
    cycles = board.driver.number("counter", ctypes.byref(board.machine), counter_offset("cycles"))
    assert end.cycles == cycles > 0
    assert (end.nonfinite, end.overflow) == (0, 0)
    assert board.call("job_end", 1, ctypes.byref(end)) == "RANGE"
    assert board.call("report", ctypes.byref(Fault())) == "OK"


def test_interrupts_are_enabled_and_taken_back(driver):
    board = Board(driver)
    board.submit(board.descriptor())
    board.driver.number("ring", ctypes.byref(board.machine))
    board.device.wait_interrupt(5.0, None)
    assert board.device.read_register(register("INTERRUPT").offset) == 1
    assert board.call("poll") == "OK"
    assert board.device.read_register(register("INTERRUPT").offset) == 0
    silent = Board(driver, interrupts=0)
    assert silent.device.read_register(register("INTERRUPT_ENABLE").offset) == 0


def test_the_ring_is_filled_and_wraps(driver):
    board = Board(driver, ring_log2=1)
    numbers = []
    for _ in range(3):
        assert board.submit(board.descriptor())[0] == "OK"
        status, number = board.submit(board.descriptor())
        assert status == "OK"
        assert board.submit(board.descriptor())[0] == "FULL"
        board.driver.number("ring", ctypes.byref(board.machine))
        assert board.call("wait", number, 9) == "OK"
        numbers.append(number)
    assert numbers == [1, 3, 5]
    assert board.driver.number("counter", ctypes.byref(board.machine), counter_offset("jobs")) == 6


def test_flags_of_a_job(driver):
    board = Board(driver)
    board.memory[board.buffers["v"].address + 1] = 0x7F
    board.memory[board.buffers["v"].address] = 0x80
    _, number = board.submit(board.descriptor())
    board.driver.number("ring", ctypes.byref(board.machine))
    assert board.call("wait", number, 3) == "OK"
    end = JobEnd()
    assert board.call("job_end", number, ctypes.byref(end)) == "OK"
    assert (end.nonfinite, end.overflow) == (1, 0)


def wrong_magic(board: Board):
    descriptor = board.descriptor()
    descriptor[0] ^= 1
    return descriptor


@pytest.mark.parametrize(
    ("make", "before", "cause", "address"),
    [
        (wrong_magic, 1, Cause.DESCRIPTOR, 0x100),
        # The first job's: the second one would find the program loaded.
        (lambda board: board.descriptor(program_address=0x1018), 0, Cause.PROGRAM, 0x1008),
        (lambda board: board.descriptor(k=Array(1 << 20, 16)), 1, Cause.WINDOW, 1 << 20),
        (lambda board: board.descriptor(o=Array(0, 32)), 1, Cause.WINDOW, 0),
    ],
    ids=["descriptor", "program", "read window", "write window"],
)
def test_faults_are_reported_and_left(driver, make, before, cause, address):
    board = Board(driver)
    for _ in range(before):
        board.submit(board.descriptor())
    status, number = board.submit(make(board))
    assert (status, number) == ("OK", before)
    board.driver.number("ring", ctypes.byref(board.machine))
    assert board.call("wait", number, 9) == "FAULT"
    assert [board.call("wait", earlier, 1) for earlier in range(before)] == ["OK"] * before
    fault = Fault()
    assert board.call("report", ctypes.byref(fault)) == "FAULT"
    assert (fault.cause, fault.address, fault.job) == (cause, address, before)
    assert board.start() == "OK"
    assert board.call("report", ctypes.byref(fault)) == "OK"
    _, number = board.submit(board.descriptor())
    board.driver.number("ring", ctypes.byref(board.machine))
    assert board.call("wait", number, 9) == "OK"
    np.testing.assert_array_equal(board.output(), board.expected())


def test_abort(driver):
    board = Board(driver)
    board.driver.number("abort", ctypes.byref(board.machine))
    fault = Fault()
    assert board.call("report", ctypes.byref(fault)) == "FAULT"
    assert fault.cause == Cause.ABORT
    board.submit(board.descriptor())
    board.driver.number("ring", ctypes.byref(board.machine))
    assert board.call("wait", 0, 2) == "FAULT"


# -- against registers that behave oddly -----------------------------------------------------------------------------


class Registers:
    """Registers by name, and what was written."""

    def __init__(self, **values: int) -> None:
        self.values = {"IDENTITY": IDENTITY, "VERSION": INTERFACE_VERSION} | values
        self.written: list[tuple[int, int]] = []

    def read(self, offset: int) -> int:
        return next((value for name, value in self.values.items() if register(name).offset == offset), 0)

    def write(self, offset: int, value: int) -> None:
        self.written.append((offset, value))


def test_another_device_is_not_opened(driver):
    for values, expected in (({"IDENTITY": 0}, "ABSENT"), ({"VERSION": INTERFACE_VERSION + 1}, "VERSION"), ({}, "OK")):
        registers = Registers(**values)
        assert driver.open(registers.read, registers.write)[0] == expected
        assert registers.written == []


def test_a_memory_that_does_not_answer(driver):
    registers = Registers(STATUS=1 << 4)
    _, machine = driver.open(registers.read, registers.write)
    ring = (ctypes.c_uint8 * 512)()
    setting = Settings(ring=ctypes.addressof(ring), ring_size_log2=1)
    assert driver.start(ctypes.byref(machine), ctypes.byref(setting), 3) == "DRAINING"
    assert registers.written == [(register("CONTROL").offset, 1)]
    assert driver.submit(ctypes.byref(machine), (ctypes.c_uint8 * DESCRIPTOR_BYTES)(), None) == "FULL"


@pytest.mark.parametrize("fields", [{"ring": None}, {"ring_address": 128}, {"ring_size_log2": 0}, {"ring_size_log2": 17}])
def test_settings_out_of_range(driver, fields):
    registers = Registers()
    _, machine = driver.open(registers.read, registers.write)
    ring = (ctypes.c_uint8 * 512)()
    setting = Settings(**{"ring": ctypes.addressof(ring), "ring_size_log2": 1} | fields)
    assert driver.start(ctypes.byref(machine), ctypes.byref(setting), 3) == "RANGE"
    assert registers.written == []


def test_addresses_of_64_bits(driver):
    registers = Registers()
    _, machine = driver.open(registers.read, registers.write)
    ring = (ctypes.c_uint8 * 512)()
    places = [0x1_2345_6700, 0x2_0000_0001, 0x3_0000_0002, 0x4_0000_0003, 0x5_0000_0004]
    setting = Settings(ctypes.addressof(ring), places[0], 1, Window(places[1], places[2]), Window(places[3], places[4]), 77, 2)
    assert driver.start(ctypes.byref(machine), ctypes.byref(setting), 3) == "OK"
    written = dict(registers.written)
    names = ("RING_BASE", "READ_WINDOW_FIRST", "READ_WINDOW_LAST", "WRITE_WINDOW_FIRST", "WRITE_WINDOW_LAST")
    for name, place in zip(names, places, strict=True):
        halves = [written[register(f"{name}_{half}").offset] for half in ("LOW", "HIGH")]
        assert halves == [place & 0xFFFF_FFFF, place >> 32]
    assert written[register("WATCHDOG").offset] == 77
    assert written[register("INTERRUPT_ENABLE").offset] == 2


def test_numbers_go_beyond_their_bits(driver):
    """The ring's indices have 16 bits, the driver's 32: three jobs around both ends."""
    registers = Registers(RING_HEAD=0xFFFE)
    _, machine = driver.open(registers.read, registers.write)
    ring = (ctypes.c_uint8 * 1024)()
    setting = Settings(ring=ctypes.addressof(ring), ring_size_log2=2)
    assert driver.start(ctypes.byref(machine), ctypes.byref(setting), 3) == "OK"
    machine.queued = machine.rung = machine.complete = 0xFFFF_FFFE
    numbers = []
    for _ in range(3):
        number = ctypes.c_uint32()
        assert driver.submit(ctypes.byref(machine), (ctypes.c_uint8 * DESCRIPTOR_BYTES)(), ctypes.byref(number)) == "OK"
        numbers.append(number.value)
    assert numbers == [0xFFFF_FFFE, 0xFFFF_FFFF, 0]
    driver.number("ring", ctypes.byref(machine))
    assert registers.written[-1] == (register("RING_TAIL").offset, 1)
    for head, complete in ((0xFFFE, 0), (0xFFFF, 1), (0, 2), (1, 3)):
        registers.values["RING_HEAD"] = head
        states = [driver.wait(ctypes.byref(machine), number, 1) for number in numbers]
        assert states == ["OK"] * complete + ["BUSY"] * (3 - complete)


def test_counters_do_not_tear(driver):
    """The low half overflows between the two reads."""
    registers = Registers()
    value = 0x1_FFFF_FFFE

    def read(offset: int) -> int:
        nonlocal value
        if offset < counter_offset("cycles"):
            return registers.read(offset)
        value += 1
        return value >> 32 if offset % 8 else value & 0xFFFF_FFFF

    _, machine = driver.open(read, registers.write)
    found = driver.number("counter", ctypes.byref(machine), counter_offset("cycles"))
    assert 0x1_FFFF_FFFF <= found <= value < 0x2_0000_0010


# -- text ----------------------------------------------------------------------------------------------------------


def test_everything_has_a_text(driver):
    texts = [driver.text("status", code) for code in range(len(STATUS))] + [driver.text("cause", cause) for cause in Cause]
    assert len(set(texts)) == len(texts)
    assert not any("unknown" in text for text in texts)
    assert driver.text("status", len(STATUS)) == "unknown status"
    assert driver.text("cause", max(Cause) + 1) == "unknown cause"


def test_numbers_that_the_driver_repeats():
    """What is not in the generated header is as in the host."""
    sources = driver_sources()
    header, source = sources["fusemax_driver.h"], sources["fusemax_driver.c"]
    (unbounded,) = re.findall(r"#define FUSEMAX_UNBOUNDED INT32_C\((\w+)\)", header)
    assert int(unbounded, 0) == UNBOUNDED
    (most_share,) = re.findall(r"#define MOST_SHARE (\d+)u", source)
    assert int(most_share) == MAX_SHARE
    codes = header.split("enum fusemax_status {")[1].split("};")[0]
    assert re.findall(r"^ +FUSEMAX_(\w+)", codes, re.MULTILINE) == list(STATUS)


@pytest.mark.parametrize("language", ["c99", "c++11"])
def test_sources_compile_without_warnings(tmp_path, language):
    compile_c(tmp_path, "-c", "fusemax_driver.c", language=language)

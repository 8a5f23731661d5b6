"""Faults that a host can meet: each fails the call with an exception of its own, and the device takes the next call."""

from __future__ import annotations

import numpy as np
import pytest

import fusemax
from fusemax.errors import (
    AbortFaultError,
    DescriptorFaultError,
    DeviceDrainError,
    DeviceFaultError,
    ProgramFaultError,
    ReadFaultError,
    WatchdogFaultError,
    WindowFaultError,
    WriteFaultError,
)
from fusemax.spec import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, MICROWORD, PROGRAM_HEADER, register
from fusemax_sim import Failure
from fusemax_sim.problems import CONFIGS

pytestmark = pytest.mark.cosim

MODEL = {"queries": 21, "keys": 30, "e": 18, "f": 11, "leading": (3,)}
REGIONS = ("q", "k", "v", "o", "program")


@pytest.fixture
def places(open_pair, arrays):
    """First and last byte of a region of a call, perhaps behind a smaller one: the driver places both alike on every device.

    Of the queries the first byte behind what the smaller call covers when it follows.
    """

    def find(config: str, out_dtype: str, region: str, behind: bool) -> tuple[int, int]:
        with fusemax.open("model", CONFIGS[config]) as model:
            if behind:
                fusemax.attention(*arrays(3, 4, 2), device=model)
            fusemax.attention(*arrays(**MODEL), device=model, out_dtype=out_dtype)
            job = job_at(model, int(behind))
        found = {"program": (job["program_address"], job["program_address"] + job["ii"] * MICROWORD.bits // 8 - 1)}
        elements = {"q": (21, 36), "k": (30, 36), "v": (30, 22), "o": (21, 22 if out_dtype == "bfloat16" else 44)}
        for name, (rows, row_bytes) in elements.items():
            first = job[f"{name}_address"]
            last = first + 2 * job[f"{name}_head_stride"] + (rows - 1) * job[f"{name}_row_stride"] + row_bytes - 1
            found[name] = (first + 512 * (name == "q"), last)
        return found[region]

    return find


def job_at(device: fusemax.Device, index: int) -> dict[str, int]:
    image = device.transport.memory[index * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES]
    return DESCRIPTOR.unpack(int.from_bytes(image.tobytes(), "little"))


@pytest.mark.parametrize("stall_probability", [0.0, 0.4])
@pytest.mark.parametrize(("config", "out_dtype"), [("tiny", "bfloat16"), ("small", "float32")])
@pytest.mark.parametrize("where", ["first", "last"])
@pytest.mark.parametrize("region", REGIONS)
def test_an_error_response(
    open_pair, arrays, places, region: str, where: str, config: str, out_dtype: str, stall_probability: float
) -> None:
    # A smaller call before would put its arrays where this one's program comes.
    behind = region != "program"
    address = places(config, out_dtype, region, behind)[where == "last"]
    kind = "write_errors" if region == "o" else "read_errors"
    pair = open_pair(config, stall_probability=stall_probability, **{kind: (address, address + 1)})
    small = arrays(3, 4, 2)
    if behind:
        pair(*small)
    for _ in range(2):
        with pytest.raises(WriteFaultError if region == "o" else ReadFaultError) as caught:
            fusemax.attention(*arrays(**MODEL), device=pair.rtl, out_dtype=out_dtype, timeout=60)
        # Errors are answers to bus words, or to bursts of at most 4 KB if they are writes.
        bus_bytes = pair.rtl.config.bus_bytes
        assert 0 <= address - caught.value.address < (4096 if region == "o" else bus_bytes)
        assert pair.status() == 0
        # The next call writes its result where the arrays of the failed one begin.
        pair(*small)
        pair(*small, out_dtype="float32")


def test_a_descriptor_that_cannot_be_read(open_pair, arrays) -> None:
    pair = open_pair(read_errors=(256 + 8, 256 + 9))
    small, large = arrays(3, 4, 2), arrays(9, 9, 9)
    for _ in range(2):
        pair(*small)
        with pytest.raises(ReadFaultError, match=r"at job 1: a read was answered with an error, address 0x108$"):
            fusemax.attention(*large, device=pair.rtl, timeout=60)
        assert pair.status() == 0
    # The reset leads back to the beginning of the ring.
    pair(*large)


def spoil(device: fusemax.Device, change) -> list[np.ndarray]:
    """``change(memory, job)`` when the doorbell rings next; ``job`` are the fields of the last descriptor.

    Memory behind the change is in the list afterwards.
    """
    transport, original = device.transport, device.transport.write_register
    copies = []

    def write_register(offset: int, value: int) -> None:
        if offset == register("RING_TAIL").offset:
            transport.write_register = original
            change(transport.memory, job_at(device, (value - 1) % device.driver.queue.ring.capacity))
            copies.append(transport.memory[: 1 << 22].copy())
        original(offset, value)

    transport.write_register = write_register
    return copies


def flip_magic(memory: np.ndarray, job: dict[str, int]) -> None:
    memory[0] ^= 1


def flip_version(memory: np.ndarray, job: dict[str, int]) -> None:
    memory[job["program_address"] - PROGRAM_HEADER.bits // 8 + 4] ^= 2


def put_elsewhere(**fields: int):
    def change(memory: np.ndarray, job: dict[str, int]) -> None:
        image = DESCRIPTOR.pack(job | fields).to_bytes(DESCRIPTOR_BYTES, "little")
        memory[:DESCRIPTOR_BYTES] = np.frombuffer(image, np.uint8)

    return change


@pytest.mark.parametrize(
    ("change", "error", "address"),
    [
        (flip_magic, DescriptorFaultError, 0),
        (put_elsewhere(last_keys=5), DescriptorFaultError, 0),
        (put_elsewhere(continued=1), DescriptorFaultError, 0),
        (flip_version, ProgramFaultError, None),
        (put_elsewhere(e=8), ProgramFaultError, None),
        # Into the ring, and behind the memory.
        (put_elsewhere(o_address=64), WindowFaultError, 64),
        (put_elsewhere(o_address=1 << 30), WindowFaultError, 1 << 30),
        (put_elsewhere(k_address=1 << 39), WindowFaultError, 1 << 39),
    ],
    ids=["magic", "last_keys", "continued", "version", "e", "o_in_ring", "o_outside", "k_outside"],
)
def test_jobs_that_are_wrong(open_pair, arrays, change, error, address: int | None) -> None:
    pair = open_pair()
    operands = arrays(9, 9, 9)
    for device in (pair.rtl, pair.model):
        copies = spoil(device, change)
        with pytest.raises(error) as caught:
            fusemax.attention(*operands, device=device, timeout=60)
        assert caught.value.job == 0
        job = job_at(device, 0)
        assert caught.value.address == (job["program_address"] - 16 if address is None else address)
        # None of them gets to the output; the driver has written the program again.
        program = slice(job["program_address"] - 16, job["program_address"])
        copies[0][program] = device.transport.memory[program]
        assert (device.transport.memory[: len(copies[0])] == copies[0]).all()
    pair(*operands)


@pytest.mark.parametrize("failure", [f for f in Failure if f.name.endswith(("SILENT", "CLOSED"))], ids=lambda f: f.name)
def test_a_memory_that_does_not_answer(open_pair, arrays, failure: Failure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog ends the call; the device takes none until the memory has answered, and then the next one is right."""
    monkeypatch.setattr("fusemax.runtime.job_ring.DRAIN_SECONDS", 0.3)
    pair = open_pair()
    small = arrays(7, 9, 8)
    ring = pair.rtl.driver.queue.ring
    ring.watchdog_cycles = 3000
    pair(*small)
    ring.start()
    pair.rtl.transport.fail(failure, 10)
    with pytest.raises((WatchdogFaultError, DeviceDrainError)):
        fusemax.attention(*arrays(20, 20, 20), device=pair.rtl, timeout=60)
    status = pair.status()
    if failure is not Failure.WRITE_CLOSED:
        assert status & 16
        # The register port answers, and the doorbell is refused.
        pair.rtl.transport.write_register(register("RING_TAIL").offset, 1)
        assert pair.rtl.transport.read_register(register("RING_TAIL").offset) == 0
        with pytest.raises(DeviceDrainError, match="its memory does not answer"):
            fusemax.attention(*small, device=pair.rtl, timeout=60)
    pair.rtl.transport.fail(Failure.NONE)
    pair(*small)
    pair(*small, out_dtype="float32")


@pytest.mark.parametrize("stall_probability", [0.0, 0.4])
def test_abort_at_any_time(open_pair, arrays, stall_probability: float) -> None:
    pair = open_pair(stall_probability=stall_probability)
    operands = arrays(30, 30, 20, leading=(2,))
    random = np.random.default_rng(4)
    for _ in range(8):
        submissions = [pair.rtl.submit(*operands) for _ in range(2)]
        pair.rtl.transport.step(int(random.integers(1, 3000)))
        pair.rtl.abort()
        for submission in submissions:
            with pytest.raises(AbortFaultError):
                submission.result(30)
    pair(*operands)


def test_submitted_calls_run_together_and_fail_alone(open_pair, arrays) -> None:
    """Three calls in the ring at once; the one in the middle meets an error, and is the only one that fails."""
    pair = open_pair(stall_probability=0.1)
    calls = [arrays(12, 20, 10, seed=seed) for seed in range(3)]
    for error in (False, True):
        submissions = [pair.rtl.submit(*operands) for operands in calls]
        address = submissions[1]._pending.queued.jobs[0].v_address
        if error:
            # As if the memory were broken there: an infinity.
            pair.rtl.transport.memory[address : address + 2] = [0x80, 0x7F]
        for index in (2, 0, 1):
            if error and index == 1:
                with pytest.raises(fusemax.errors.NonFiniteError):
                    submissions[index].result(60)
            else:
                expected = fusemax.attention(*calls[index], device=pair.model)
                np.testing.assert_array_equal(submissions[index].result(60), expected)
        if not error:
            cycles = [submission.cycles for submission in submissions]
            assert cycles == sorted(cycles) and cycles[0] > 0


def test_a_fault_in_the_midst_of_traffic(open_pair, arrays) -> None:
    """Faults at many addresses, with many bursts under way: the reset waits for them, and the next call is right."""
    small = arrays(7, 9, 8)
    large = arrays(50, 60, 30, 40, leading=(4,))
    with fusemax.open("model", CONFIGS["tiny"]) as model:
        fusemax.attention(*small, device=model)
        end = job_at(model, 0)["o_address"] + 7 * 16
        fusemax.attention(*large, device=model)
        job = job_at(model, 1)
    random = np.random.default_rng(8)
    for seed in range(12):
        kind = str(random.choice(["read_errors", "write_errors"]))
        last = job["o_address"] if kind == "read_errors" else job["o_address"] + 4 * 50 * 80
        address = int(random.integers(end, last))
        memory = {"stall_probability": float(random.choice([0, 0.2, 0.7])), "read_latency_cycles": int(random.integers(1, 200))}
        pair = open_pair("tiny", seed=seed, **memory, **{kind: (address, 1 << 24)})
        with pytest.raises(DeviceFaultError):
            fusemax.attention(*large, device=pair.rtl, timeout=60)
        pair(*small)

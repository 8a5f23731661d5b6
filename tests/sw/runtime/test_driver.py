"""Driver: jobs, memory, faults; what it tells the machine."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

import fusemax
from fusemax.errors import DeviceFaultError, DeviceTimeoutError, NonFiniteError
from fusemax.model.model_transport import ModelTransport
from fusemax.spec import CONFIGS, DESCRIPTOR_BYTES, Cause, Descriptor, register

SMALL = CONFIGS["small"]
ONE = np.ones((4, 8), np.float32)


class Spy(ModelTransport):
    """A model device that remembers the descriptors rung for, and whose memory can be spoilt before it starts."""

    def __init__(self, config=SMALL, memory_bytes: int = 1 << 20) -> None:
        super().__init__(config, memory_bytes)
        self.jobs: list[dict[str, int]] = []
        self.spoil = None

    def write_register(self, offset: int, value: int) -> None:
        if offset == register("RING_TAIL").offset:
            for index in range(self.read_register(offset), value):
                at = index % 64 * 256
                self.jobs.append(Descriptor.unpack(int.from_bytes(self.memory[at : at + DESCRIPTOR_BYTES].tobytes(), "little")))
            if self.spoil:
                self.spoil(self)
        super().write_register(offset, value)


@pytest.fixture
def spy():
    transport = Spy()
    with fusemax.Device(transport, SMALL) as device:
        yield transport, device


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed, shape in enumerate(shapes)]


def test_one_job_for_all_heads_and_batch_entries(spy) -> None:
    transport, device = spy
    q, k, v = arrays((2, 3, 70, 10), (2, 3, 50, 10), (2, 3, 50, 6))
    fusemax.attention(q, k, v, device=device)
    (job,) = transport.jobs
    # Ten elements are three bus words of 8 bytes, six are two.
    expected = {
        "heads": 3, "batch": 2, "e": 10, "f": 6, "ii": fusemax.compile(head_dim=10, value_dim=6).ii,
        "key_tiles": 7, "last_keys": 2, "last_queries": 6, "groups": 1, "large_groups": 1, "group_tiles": 9,
        "group_iterations": 63, "query_slots": 21, "output_slots": 32, "float32_out": 0, "interrupt": 1,
        "q_row_stride": 24, "k_row_stride": 24, "v_row_stride": 16, "o_row_stride": 16,
        "q_head_stride": 24 * 70, "k_head_stride": 24 * 50, "v_head_stride": 16 * 50, "o_head_stride": 16 * 70,
        "q_batch_stride": 24 * 210, "k_batch_stride": 24 * 150, "v_batch_stride": 16 * 150, "o_batch_stride": 16 * 210,
    }  # fmt: skip
    assert {name: getattr(job, name) for name in expected} == expected
    assert all(value % 8 == 0 for name, value in vars(job).items() if name.endswith(("address", "stride")))
    assert np.uint32(job.scale).view(np.float32) == np.float32(np.log2(np.e) / np.sqrt(10))


def test_arrays_and_program_do_not_overlap(spy) -> None:
    transport, device = spy
    q, k, v = arrays((2, 30, 10), (2, 20, 10), (2, 20, 6))
    fusemax.attention(q, k, v, device=device, out_dtype="float32")
    (job,) = transport.jobs
    lengths = {"q": 30, "k": 20, "v": 20, "o": 30}
    pieces = [
        (getattr(job, f"{name}_address"), 2 * length * getattr(job, f"{name}_row_stride")) for name, length in lengths.items()
    ]
    pieces += [(0, 64 * 256), (job.program_address - 16, 16 + 4 * job.ii)]
    pieces.sort()
    for (start, size), (behind, _) in itertools.pairwise(pieces):
        assert start + size <= behind


def test_a_program_is_written_once(spy) -> None:
    transport, device = spy
    fusemax.attention(ONE, ONE, ONE, device=device)
    fusemax.attention(ONE[:, :4], ONE[:, :4], ONE, device=device)
    fusemax.attention(ONE, ONE, ONE, device=device)
    first, other, again = (job.program_address for job in transport.jobs)
    assert first == again < other
    words = transport.memory[first : first + 4 * transport.jobs[0].ii].tobytes()
    assert words == fusemax.compile(head_dim=8).words_bytes
    assert transport.memory[first - 16 : first - 12].tobytes() == b"FMAX"


def test_ring_and_head_go_round(spy) -> None:
    transport, device = spy
    for _ in range(100):
        np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)
    assert len(transport.jobs) == 100
    assert transport.read_register(register("RING_HEAD").offset) == 100


def test_index_wraps_at_16_bits(spy) -> None:
    transport, device = spy
    ring = device.driver.queue.ring
    ring.queued = ring.complete = ring._rung = 0xFFFF
    transport._registers |= {"RING_HEAD": 0xFFFF, "RING_TAIL": 0xFFFF}
    transport._next = 0xFFFF
    np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)
    assert transport.read_register(register("RING_HEAD").offset) == 0


def test_more_jobs_than_the_ring_holds(spy, monkeypatch: pytest.MonkeyPatch) -> None:
    transport, device = spy
    monkeypatch.setattr("fusemax.planning.descriptors.STRIDE_LIMIT", 1)
    q, k, v = arrays((5, 21, 9, 8), (5, 21, 12, 8), (5, 21, 12, 4))
    cut = fusemax.attention(q, k, v, device=device)
    assert device.counters.jobs == 105
    assert all(
        getattr(job, f"{name}_{axis}_stride") == 0
        for job in transport.jobs[-3:]
        for name in "qkvo"
        for axis in ("head", "batch")
    )
    monkeypatch.undo()
    np.testing.assert_array_equal(fusemax.attention(q, k, v, device=device), cut)
    assert device.counters.jobs == 1


def spoil_descriptor(transport: Spy) -> None:
    transport.memory[0] ^= 1


def spoil_output_address(transport: Spy) -> None:
    job = replace(transport.jobs[-1], o_address=1 << 20)
    transport.memory[:DESCRIPTOR_BYTES] = np.frombuffer(job.pack().to_bytes(DESCRIPTOR_BYTES, "little"), np.uint8)


@pytest.mark.parametrize("options", [{}, {"prefix": 3, "window": (1, 0), "query_offset": 12}])
def test_queries_that_see_no_key_are_zero_whatever_was_in_memory(spy, options: dict) -> None:
    """Also beside chains, of which only the last job writes."""
    transport, device = spy
    q, k, v = arrays((2, 1, 9, 8), (2, 1, 20, 8), (2, 1, 20, 8))
    transport.memory[64 * 256 :] = 0x3F
    out = fusemax.attention(q, k, v, device=device, key_lengths=[0, 20], **options)
    assert any(job.continues for job in transport.jobs) == bool(options)
    assert not out[0].any() and out[1].all()


@pytest.mark.parametrize(
    ("spoil", "cause", "address", "message"),
    [
        (spoil_descriptor, Cause.DESCRIPTOR, 0, "the machine stopped at job 0: a job descriptor is wrong, address 0x0"),
        (
            spoil_output_address,
            Cause.WINDOW,
            1 << 20,
            "the machine stopped at job 0: a burst would have left its window, address 0x100000",
        ),
    ],
)
def test_faults_are_raised_and_the_next_call_works(spy, spoil, cause: Cause, address: int, message: str) -> None:
    transport, device = spy
    transport.spoil = spoil
    with pytest.raises(DeviceFaultError, match=message) as caught:
        fusemax.attention(ONE, ONE, ONE, device=device)
    assert (caught.value.cause, caught.value.address) == (cause, address)
    assert transport.read_register(register("STATUS").offset) == 0
    transport.spoil = None
    np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)


def test_what_the_machine_finds_not_finite_is_raised(spy) -> None:
    transport, device = spy

    def infinity(transport: Spy) -> None:
        address = transport.jobs[-1].v_address
        transport.memory[address : address + 2] = [0x80, 0x7F]

    transport.spoil = infinity
    with pytest.raises(NonFiniteError, match="the machine has read an infinity or a NaN"):
        fusemax.attention(ONE, ONE, ONE, device=device)
    transport.spoil = None
    np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)


def test_the_call_after_a_timeout_waits_for_the_machine(spy) -> None:
    transport, device = spy
    q, k, v = arrays((50, 8, 8), (50, 8, 8), (50, 8, 8))
    expected = fusemax.attention(q, k, v, device=device)
    for _ in range(2):
        with pytest.raises(DeviceTimeoutError, match=r"the device must be done within 1e-09 s, but is not"):
            fusemax.attention(q, k, v, device=device, timeout=1e-9)
    assert transport.read_register(register("STATUS").offset) == 1
    np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device, timeout=30), ONE)
    assert device.counters.jobs == 1
    # A reset would have set this to zero.
    assert transport.read_register(register("RING_HEAD").offset) == 3
    np.testing.assert_array_equal(fusemax.attention(q, k, v, device=device), expected)


def test_what_an_interrupted_call_left_behind_does_not_touch_the_next_one(spy) -> None:
    """The interrupted job would overflow and then fail."""
    transport, device = spy
    big = np.full((20, 4, 8), 1000, np.float32)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    for spoil in (None, spoil_output_address):
        transport.spoil = spoil
        with pytest.raises((KeyboardInterrupt, DeviceFaultError)):
            fusemax.attention(big, big, big, device=device, progress=stop)
        transport.spoil = None
        np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)


def test_an_error_found_after_a_timeout_is_cleared(spy) -> None:
    transport, device = spy
    transport.spoil = spoil_descriptor
    with pytest.raises(DeviceTimeoutError):
        fusemax.attention(ONE, ONE, ONE, device=device, timeout=1e-9)
    transport.spoil = None
    np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)


def test_whatever_progress_raises_is_passed_on(spy) -> None:
    _, device = spy

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fusemax.attention(ONE, ONE, ONE, device=device, progress=stop)
    np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)

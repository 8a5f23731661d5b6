"""Calls from many threads at once: each gets its own result or its own error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.errors import (
    AbortFaultError,
    DescriptorFaultError,
    DeviceClosedError,
    DeviceDrainError,
    DeviceMemoryError,
    DeviceTimeoutError,
    NonFiniteError,
    ScoreOverflowError,
    WindowFaultError,
)
from fusemax.model.model_transport import ModelTransport
from fusemax.spec import CONFIGS, DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, register

TINY = CONFIGS["tiny"]


class Slow(ModelTransport):
    """A model device that does nothing until it is told to, and spoils jobs by the address of their values."""

    def __init__(self, memory_bytes: int = 1 << 20) -> None:
        super().__init__(TINY, memory_bytes)
        self.held = False
        #: Changes the fields of a job whose number since the last reset is in it.
        self.spoilt: dict[int, dict[str, int]] = {}
        self.silent = False

    def wait_interrupt(self, timeout_s, progress) -> None:
        if self.held:
            threading.Event().wait(timeout_s)
            raise TimeoutError
        super().wait_interrupt(timeout_s, progress)

    def read_register(self, offset: int) -> int:
        if self.held and offset == register("RING_HEAD").offset:
            return self._registers["RING_HEAD"]
        value = super().read_register(offset)
        if self.silent and offset == register("STATUS").offset:
            value |= 1 << 4
        return value

    def write_register(self, offset: int, value: int) -> None:
        if offset == register("RING_TAIL").offset:
            for number, fields in self.spoilt.items():
                place = self.memory[number * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES]
                job = DESCRIPTOR.unpack(int.from_bytes(place.tobytes(), "little"))
                place[:] = np.frombuffer(DESCRIPTOR.pack(job | fields).to_bytes(DESCRIPTOR_BYTES, "little"), np.uint8)
        super().write_register(offset, value)


@pytest.fixture
def slow():
    transport = Slow()
    with fusemax.Device(transport, TINY) as device:
        yield transport, device


def arrays(seed: int, queries: int = 5, keys: int = 7, e: int = 6, heads: int = 2) -> list[np.ndarray]:
    shapes = ((heads, queries, e), (heads, keys, e), (heads, keys, e))
    return [np.random.default_rng((seed, name)).standard_normal(shape, np.float32) for name, shape in enumerate(shapes)]


def expected(*operands: np.ndarray, **options) -> np.ndarray:
    with fusemax.open("model", TINY) as device:
        return fusemax.attention(*operands, device=device, **options)


def overflowing(seed: int) -> list[np.ndarray]:
    q, k, v = arrays(seed)
    return [q * 2.0**10, k * 2.0**10, v]


def test_results_in_any_order(slow) -> None:
    _, device = slow
    options = [{}, {"causal": True}, {"out_dtype": "float32"}, {"prefix": 2, "window": (1, 0)}]
    calls = [(arrays(seed, queries=9, keys=12), options[seed % 4]) for seed in range(12)]
    submissions = [device.submit(*operands, **chosen) for operands, chosen in calls]
    assert all(submission.cycles == 0 for submission in submissions)
    for index in np.random.default_rng(1).permutation(len(calls)):
        operands, chosen = calls[index]
        np.testing.assert_array_equal(submissions[index].result(30), expected(*operands, **chosen))
        assert submissions[index].done()
        # Again, as a future does it.
        assert submissions[index].result() is submissions[index].result()
    assert device.counters.jobs >= len(calls)


def test_queries_that_see_no_key(slow) -> None:
    _, device = slow
    operands = arrays(3)
    assert not device.submit(*operands, query_offset=-5, causal=True).result(30).any()


def test_counters_of_a_call_without_jobs(slow) -> None:
    """They are zero, also if the machine was busy with other calls when it came."""
    transport, device = slow
    options = {"query_offset": -5, "causal": True, "device": device}
    for busy in (False, True):
        fusemax.attention(*arrays(1), device=device)
        assert device.counters.jobs == 1
        submission = device.submit(*arrays(2)) if busy else None
        assert not fusemax.attention(*arrays(3), **options).any()
        assert not any(device.counters.values.values())
        if submission is not None:
            assert submission.done()
            np.testing.assert_array_equal(submission.result(30), expected(*arrays(2)))
    transport.held = True
    submission = device.submit(*arrays(2))
    with pytest.raises(DeviceTimeoutError):
        fusemax.attention(*arrays(3), timeout=0.1, **options)
    transport.held = False
    np.testing.assert_array_equal(submission.result(30), expected(*arrays(2)))
    assert not fusemax.attention(*arrays(3), **options).any()


def test_many_threads(slow) -> None:
    """Threads that submit, that call, and that wait, on one device."""
    _, device = slow

    def work(seed: int) -> bool:
        operands = arrays(seed, queries=1 + seed % 7, keys=1 + seed % 11)
        if seed % 3 == 0:
            result = fusemax.attention(*operands, device=device)
        else:
            result = device.submit(*operands).result(60)
        return np.array_equal(result, expected(*operands))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(60)))


def test_one_thread_waits_while_another_submits(slow) -> None:
    transport, device = slow
    transport.held = True
    first = device.submit(*arrays(1))
    results = []
    waiter = threading.Thread(target=lambda: results.append(first.result(30)))
    waiter.start()
    second = device.submit(*arrays(2))
    assert not first.done() and not second.done()
    with pytest.raises(DeviceTimeoutError, match=r"within 0.2 s"):
        second.result(0.2)
    transport.held = False
    np.testing.assert_array_equal(second.result(30), expected(*arrays(2)))
    waiter.join(30)
    np.testing.assert_array_equal(results[0], expected(*arrays(1)))


@pytest.mark.parametrize("place", range(3))
def test_a_score_out_of_range_is_told_of_its_own_call(slow, place: int) -> None:
    transport, device = slow
    transport.held = True
    calls = [overflowing(seed) if seed == place else arrays(seed) for seed in range(3)]
    submissions = [device.submit(*operands) for operands in calls]
    transport.held = False
    for seed, submission in enumerate(submissions):
        if seed == place:
            for _ in range(2):
                with pytest.raises(ScoreOverflowError):
                    submission.result(30)
        else:
            np.testing.assert_array_equal(submission.result(30), expected(*calls[seed]))


def test_an_infinity_in_memory_is_told_of_its_own_call(slow) -> None:
    transport, device = slow
    transport.held = True
    submissions = [device.submit(*arrays(seed)) for seed in range(3)]
    address = submissions[1]._pending.queued.jobs[0].v_address
    transport.memory[address : address + 2] = [0x80, 0x7F]
    transport.held = False
    with pytest.raises(NonFiniteError):
        submissions[1].result(30)
    for seed in (0, 2):
        np.testing.assert_array_equal(submissions[seed].result(30), expected(*arrays(seed)))


def test_a_wrong_descriptor_is_told_of_its_own_call(slow) -> None:
    transport, device = slow
    transport.spoilt = {1: {"magic": 1}}
    transport.held = True
    submissions = [device.submit(*arrays(seed)) for seed in range(3)]
    transport.held, transport.spoilt = False, {}
    with pytest.raises(DescriptorFaultError, match=r"at job 1: a job descriptor is wrong, address 0x100$"):
        submissions[1].result(30)
    for seed in (0, 2):
        np.testing.assert_array_equal(submissions[seed].result(30), expected(*arrays(seed)))


def test_a_fault_that_may_be_of_any_call_is_told_of_its_own(slow) -> None:
    """The model tells it of the job itself, as the machine does not; either way the others are right."""
    transport, device = slow
    transport.held = True
    submissions = [device.submit(*arrays(seed)) for seed in range(3)]
    # The job is wrong whenever it is put into the ring.
    jobs = [submission._pending.queued.jobs for submission in submissions]
    jobs[1][0] = replace(jobs[1][0], o_address=1 << 30)
    for number in range(3):
        transport.memory[number * DESCRIPTOR_STRIDE_BYTES :][:DESCRIPTOR_BYTES] = np.frombuffer(
            replace(jobs[number][0], interrupt=1).pack().to_bytes(DESCRIPTOR_BYTES, "little"), np.uint8
        )
    transport.held = False
    with pytest.raises(WindowFaultError):
        submissions[1].result(30)
    for seed in (0, 2):
        np.testing.assert_array_equal(submissions[seed].result(30), expected(*arrays(seed)))


def test_abort(slow) -> None:
    transport, device = slow
    device.abort()
    transport.held = True
    submissions = [device.submit(*arrays(seed)) for seed in range(3)]
    device.abort()
    transport.held = False
    for submission in submissions:
        with pytest.raises(AbortFaultError, match="it was aborted"):
            submission.result(30)
    np.testing.assert_array_equal(fusemax.attention(*arrays(5), device=device), expected(*arrays(5)))


def test_a_memory_that_never_answers(slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the watchdog no call is taken until the memory has answered."""
    monkeypatch.setattr("fusemax.runtime.job_ring.DRAIN_SECONDS", 0.1)
    transport, device = slow
    transport.held = True
    first = device.submit(*arrays(1))
    transport.silent = True
    device.abort()
    with pytest.raises(AbortFaultError):
        first.result(30)
    with pytest.raises(DeviceDrainError, match="its memory does not answer"):
        fusemax.attention(*arrays(2), device=device)
    transport.held = transport.silent = False
    np.testing.assert_array_equal(fusemax.attention(*arrays(5), device=device), expected(*arrays(5)))


def test_memory_is_given_back(slow) -> None:
    _, device = slow
    device.submit(*arrays(0)).result(30)
    before = dict(device.driver.memory._reserved)
    device.submit(*arrays(1)).result(30)
    with pytest.raises(ScoreOverflowError):
        device.submit(*overflowing(2)).result(30)
    assert device.driver.memory._reserved == before
    # One that nobody waits for is given back when another needs room.
    device.submit(*arrays(3))
    device.submit(*arrays(4)).result(30)
    device.submit(*arrays(5)).result(30)
    assert device.driver.memory._reserved == before


def test_arrays_of_a_call_that_ran_out_of_time_are_left_alone(slow) -> None:
    """The machine is still at them; those that are submitted meanwhile get other memory, or none."""
    transport, device = slow
    transport.held = True
    large = arrays(1, keys=1500, heads=4)
    with pytest.raises(DeviceTimeoutError):
        fusemax.attention(*large, device=device, timeout=0.1)
    (start, end) = device.driver.memory.call
    before = transport.memory[start:end].copy()
    kept = []
    with pytest.raises(DeviceMemoryError):
        while True:
            kept.append(device.submit(*arrays(2, keys=1000)))
    np.testing.assert_array_equal(transport.memory[start:end], before)
    transport.held = False
    np.testing.assert_array_equal(kept[-1].result(60), expected(*arrays(2, keys=1000)))


def test_no_room(slow) -> None:
    transport, device = slow
    transport.held = True
    operands = arrays(1, keys=2000, heads=4)
    kept = []
    with pytest.raises(DeviceMemoryError, match=r"the arrays need [0-9]+ bytes, but the device memory has [0-9]+ bytes left"):
        for _ in range(10):
            kept.append(device.submit(*operands))
    assert 1 < len(kept) < 10
    transport.held = False
    kept[0].result(30)
    device.submit(*operands).result(30)


def test_arguments(slow) -> None:
    _, device = slow
    q, k, v = arrays(1)
    with pytest.raises(TypeError, match=r"timeout must be given to the submission's result\(\), not to submit\(\)"):
        device.submit(q, k, v, timeout=1)
    with pytest.raises(TypeError, match=r"^program must be a Program or None, not 1$"):
        device.submit(q, k, v, program=1)
    for name in ("speed", "device"):
        with pytest.raises(TypeError, match=rf"submit\(\) got an unexpected keyword argument '{name}'"):
            device.submit(q, k, v, **{name: 1})
    for timeout in ("1", True):
        with pytest.raises(TypeError, match=f"timeout must be a number of seconds or None, not {timeout!r}"):
            device.submit(q, k, v).result(timeout)
    with pytest.raises(ValueError, match="the head dim of k must be that of q"):
        device.submit(q, k[..., :3], v)
    bad = v.astype(ml_dtypes.bfloat16)
    bad[0, 0, 0] = np.inf
    with pytest.raises(NonFiniteError):
        device.submit(q, k, bad)
    device.close()
    with pytest.raises(DeviceClosedError):
        device.submit(q, k, v)

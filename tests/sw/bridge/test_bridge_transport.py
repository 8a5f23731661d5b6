"""Driver's transport over a bridge, with the model device behind it: the same results as without a line."""

from __future__ import annotations

import random
from unittest.mock import patch

import numpy as np
import pytest
from bridge_model import BAUD, BridgeModel, Line, NoisyLine

import fusemax
from fusemax.bridge import BridgeTransport, Link, Target
from fusemax.bridge.bridge_transport import cut_zeros, differing, written_end
from fusemax.errors import DeviceClosedError, DeviceFaultError, DeviceTimeoutError
from fusemax.model.model_transport import ModelTransport
from fusemax.planning.descriptors import describe
from fusemax.planning.masks import Mask
from fusemax.planning.memory_map import Shape, place_arrays
from fusemax.runtime.device import Device
from fusemax.spec import CONFIGS, register

MEMORY_BYTES = 1 << 17
SMALL = CONFIGS["small"]


class System:
    """Model device behind a bridge behind a line."""

    def __init__(self, line: type[Line] = Line, **noise: object) -> None:
        self.model = ModelTransport(SMALL, MEMORY_BYTES)
        # Memory as an FPGA has it after other work.
        self.model.memory[:] = np.random.default_rng(9).integers(0, 256, MEMORY_BYTES)
        self.bridge = BridgeModel(memoryview(self.model.memory), self, payload_bytes=512, buffer_bytes=4096)
        self.bridge.on_poll = self.work
        self.line = line(self.bridge, **noise)
        self.target = Target(Link(self.line, baud=BAUD, clock=self.line.now, latency_s=0.001))

    def read(self, offset: int) -> int:
        return self.model.read_register(offset)

    def write(self, offset: int, value: int) -> None:
        self.model.write_register(offset, value)

    def work(self) -> None:
        """The machine goes on when it is looked at."""
        self.model.read_register(register("STATUS").offset)
        read = self.model.read_register
        self.bridge.irq = bool(read(register("INTERRUPT").offset) & read(register("INTERRUPT_ENABLE").offset))


def problem(seed: int, queries: int = 9, keys: int = 20, e: int = 16) -> list[np.ndarray]:
    shapes = ((2, 3, queries, e), (2, 3, keys, e), (2, 3, keys, e))
    return [np.random.default_rng((seed, place)).standard_normal(shape, np.float32) for place, shape in enumerate(shapes)]


@pytest.mark.parametrize("out_dtype", ["float32", "bfloat16"])
def test_results_are_those_of_the_device(out_dtype: str) -> None:
    system = System()
    with Device(BridgeTransport(system.target), "small") as device, fusemax.open("model", "small") as model:
        for seed, sizes in enumerate(({}, {"queries": 1, "keys": 40}, {"queries": 17, "keys": 3, "e": 64}, {})):
            result = fusemax.attention(*problem(seed, **sizes), device=device, out_dtype=out_dtype, timeout=60)
            expected = fusemax.attention(*problem(seed, **sizes), device=model, out_dtype=out_dtype)
            np.testing.assert_array_equal(result.view(np.uint8), expected.view(np.uint8))
        assert device.counters.jobs == model.counters.jobs


def test_results_under_noise() -> None:
    system = System(NoisyLine, rng=random.Random(3), flip=2e-4, drop=1e-4, extra=1e-4)
    with Device(BridgeTransport(system.target), "small") as device, fusemax.open("model", "small") as model:
        for seed in range(2):
            result = fusemax.attention(*problem(seed), device=device, timeout=60)
            np.testing.assert_array_equal(result, fusemax.attention(*problem(seed), device=model))
    assert system.target.link.counts.repeated_requests > 0


def test_only_what_differs_is_carried() -> None:
    system = System()
    sent: list[tuple[int, int]] = []
    with Device(BridgeTransport(system.target, progress=lambda done, size: sent.append((done, size))), "small") as device:
        q, k, v = problem(1)
        fusemax.attention(q, k, v, device=device, timeout=60)
        first, sent[:] = {size for _, size in sent}, []
        fusemax.attention(q, k, v, device=device, timeout=60)
        second = {size for _, size in sent}
        output = 6 * q.shape[2] * q.shape[3] * 2
        assert max(first) >= 2 * (q.size + k.size + v.size) * 0.95
        # The second time only the ring's next descriptor and the result.
        assert output in second and max(second - {output}) <= 256
        assert device.transport.seconds.transfer > 0 and device.transport.seconds.compute > 0


def test_memory_is_zero_at_first_on_both_sides() -> None:
    system = System()
    transport = BridgeTransport(system.target, 4096)
    assert transport.memory.size == 4096
    assert not transport.memory.any()
    assert not system.model.memory[:4096].any() and system.model.memory[4096:].any()
    assert system.bridge.fresh is False
    with pytest.raises(ValueError, match="memory_bytes must be a multiple of 8 from 8 to the bridge's 131072, not 131080"):
        BridgeTransport(system.target, MEMORY_BYTES + 8)


def test_host_and_device_write_side_by_side() -> None:
    """Host writes within a job's output, which is not complete, stay; the device's other bytes come."""
    system = System()
    with Device(BridgeTransport(system.target), "small") as device:
        transport = device.transport
        original = transport._fetch
        touched, written = [], []

        def fetch(head: int | None) -> None:
            if transport._outstanding and head == transport._tail and not touched:
                touched.append(transport._outstanding[0])
                written.append(int(transport.memory[touched[0].start]) ^ 0xFF)
                transport.memory[touched[0].start] = written[0]
            original(head)

        transport._fetch = fetch
        fusemax.attention(*problem(1), device=device, timeout=60)
        start, end = touched[0].start, touched[0].end
        np.testing.assert_array_equal(transport.memory[start + 1 : end], system.model.memory[start + 1 : end])
        transport._fetch = original
        assert transport.memory[start] == written[0] != system.model.memory[start]
        transport.write_register(register("RING_TAIL").offset, transport.read_register(register("RING_TAIL").offset))
        assert system.model.memory[start] == written[0]


def test_what_a_job_writes_between_two_writes_of_the_host_stays() -> None:
    system = System()
    with Device(BridgeTransport(system.target), "small") as device:
        transport, memory = device.transport, system.model.memory
        with patch.object(system.model, "_step"):
            with pytest.raises(DeviceTimeoutError):
                fusemax.attention(*problem(1), device=device, timeout=0.3)
            start = transport._outstanding[0].start
            memory[start + 1] = 77
            transport.memory[[start, start + 2]] = 1, 3
            transport.write_register(register("RING_TAIL").offset, transport.read_register(register("RING_TAIL").offset))
            assert memory[start : start + 3].tolist() == [1, 77, 3]
        transport.memory[[start, start + 2]] = 0


def test_time_out_and_the_next_call() -> None:
    system = System()
    with Device(BridgeTransport(system.target), "small") as device, fusemax.open("model", "small") as model:
        stands_still = patch.object(system.model, "_step")
        with stands_still, pytest.raises(DeviceTimeoutError, match=r"must be done within 0\.3 s"):
            fusemax.attention(*problem(1), device=device, timeout=0.3)
        result = fusemax.attention(*problem(2), device=device, timeout=60)
        np.testing.assert_array_equal(result, fusemax.attention(*problem(2), device=model))


def test_after_a_fault_memory_is_what_the_device_left() -> None:
    system = System()
    with Device(BridgeTransport(system.target), "small") as device:
        upload = device.transport._upload

        def spoilt() -> None:
            device.transport.memory[0] ^= 1  # The magic of the first descriptor.
            upload()

        device.transport._upload = spoilt
        with pytest.raises(DeviceFaultError):
            fusemax.attention(*problem(1), device=device, timeout=60)
        device.transport._upload = upload
        assert not device.transport._outstanding
        np.testing.assert_array_equal(device.transport.memory, system.model.memory)
        assert fusemax.attention(*problem(1), device=device, timeout=60).shape == (2, 3, 9, 16)


def test_progress_is_called_while_waiting() -> None:
    system = System()
    seen: list[tuple[int, int]] = []
    with Device(BridgeTransport(system.target), "small") as device:
        fusemax.attention(*problem(1), device=device, timeout=60, progress=lambda done, size: seen.append((done, size)))
    assert seen and all(0 <= done <= size for done, size in seen)


def test_close() -> None:
    closed = []
    transport = BridgeTransport(System().target, close=lambda: closed.append(True))
    transport.close()
    transport.close()
    assert closed == [True]
    for use in (
        lambda: transport.read_register(0),
        lambda: transport.write_register(0, 0),
        lambda: transport.wait_interrupt(1),
    ):
        with pytest.raises(DeviceClosedError, match="the device must be open, but was closed"):
            use()


def test_pieces_that_differ() -> None:
    one, other = np.zeros(100, np.uint8), np.zeros(100, np.uint8)
    assert list(differing(one, other, 0)) == []
    one[[3, 4, 6, 20, 99]] = 1
    assert list(differing(one, other, 0)) == [(3, 5), (6, 7), (20, 21), (99, 100)]
    assert list(differing(one, other, 13)) == [(3, 21), (99, 100)]
    assert list(differing(one, other, 12)) == [(3, 7), (20, 21), (99, 100)]


def test_zeros_get_there() -> None:
    system = System()
    transport = BridgeTransport(system.target)
    doorbell = register("RING_TAIL").offset
    for text in (b"\1" * 1000, b"\1" * 300 + bytes(500) + b"\1" * 200, bytes(1000)):
        transport.memory[100:1100] = np.frombuffer(text, np.uint8)
        sent = system.target.link.counts.bytes_sent
        transport.write_register(doorbell, 0)
        assert system.model.memory[100:1100].tobytes() == text
    # At last ones became zeros in three places, for which a request each was enough.
    assert system.target.link.counts.bytes_sent - sent < 250


def test_long_runs_of_zeros_are_not_carried() -> None:
    memory = np.zeros(1000, np.uint8)
    memory[[10, 100, 101, 300, 365]] = 1
    assert list(cut_zeros(memory, 0, 1000)) == [
        (0, 11, False),
        (11, 100, True),
        (100, 102, False),
        (102, 300, True),
        (300, 301, False),
        (301, 365, True),
        (365, 366, False),
        (366, 1000, True),
    ]
    assert list(cut_zeros(memory, 11, 100)) == [(11, 100, True)]
    assert list(cut_zeros(memory, 60, 101)) == [(60, 101, False)]
    assert list(cut_zeros(memory, 100, 102)) == [(100, 102, False)]


@pytest.mark.parametrize("state_out", [False, True])
@pytest.mark.parametrize("share", [1, 3])
@pytest.mark.parametrize("f", [1, 20])
@pytest.mark.parametrize("queries", [1, 8, 9, 100])
def test_where_a_job_writes_follows_from_its_descriptor(queries: int, f: int, share: int, state_out: bool) -> None:
    shape = Shape(batch=2, heads=3, share=share, queries=queries, keys=50, e=16, f=f, out_dtype="float32", state_out=state_out)
    buffers = place_arrays(SMALL, shape, 0)
    program = fusemax.compile(head_dim=16, value_dim=f, config=SMALL)
    (fields,) = describe(SMALL, shape, program, 0, buffers)
    assert written_end(fields, SMALL.columns, SMALL.bus_bytes) == buffers["o"].address + buffers["o"].size


def test_what_a_causal_call_writes_is_seen() -> None:
    """Jobs are of some positions of query heads that lie far from each other, with states in front of the rows."""
    shape = Shape(heads=2, share=3, queries=30, keys=20, e=16, f=4, out_dtype="float32", state_out=True)
    buffers = place_arrays(SMALL, shape, 0)
    program = fusemax.compile(head_dim=16, value_dim=4, config=SMALL)
    jobs = describe(SMALL, shape, program, 0, buffers, mask=Mask(left=3, right=0, offsets=(2,)))
    ends = [written_end(job, SMALL.columns, SMALL.bus_bytes) for job in jobs]
    assert len(jobs) > 1
    last = buffers["o"].place(0, 1, 2, 20) + buffers["o"].row_stride
    assert max(ends) == last

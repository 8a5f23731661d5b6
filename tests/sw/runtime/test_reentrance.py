"""What interrupts a call: progress functions, signal handlers, the garbage collector, other threads, forks."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import fusemax
from fusemax.errors import AbortFaultError, DeviceClosedError, ForkedDeviceError, ReentrantCallError

X = np.random.default_rng(1).standard_normal((2, 40, 8), np.float32)


@pytest.fixture
def device() -> Iterator[fusemax.Device]:
    with fusemax.open("model", config="tiny", memory_bytes=1 << 20) as opened:
        yield opened


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """A hang ends the test, not the run: SIGALRM's handler raises in the midst of whatever waits."""

    def hangs(*_: object) -> None:
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(120)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def works(device: fusemax.Device) -> None:
    with fusemax.open("model", config="tiny") as other:
        expected = fusemax.attention(X, X, X, device=other)
    np.testing.assert_array_equal(fusemax.attention(X, X, X, device=device, timeout=30), expected)


@pytest.mark.parametrize("heads", [1, 2])
def test_abort_from_progress(device: fusemax.Device, heads: int) -> None:
    """Also in the call's last moment."""
    x = X[:heads]
    with pytest.raises(AbortFaultError):
        fusemax.attention(x, x, x, device=device, progress=lambda done, total: device.abort())
    works(device)


@pytest.mark.parametrize(
    "call",
    [
        lambda device, waiting: fusemax.attention(X, X, X, device=device),
        lambda device, waiting: device.submit(X, X, X),
        lambda device, waiting: waiting.result(),
        lambda device, waiting: waiting.done(),
    ],
    ids=["attention", "submit", "result", "done"],
)
def test_a_call_from_progress_is_refused(device: fusemax.Device, call) -> None:
    found: list[Exception] = []

    def progress(done: int, total: int) -> None:
        assert device.counters.cycles >= 0
        try:
            call(device, waiting)
        except ReentrantCallError as error:
            found.append(error)

    many = np.concatenate([X] * 8)
    waiting = device.submit(X, X, X)
    waiting.result(30)
    # As one that the machine has not come to.
    waiting._taken = waiting._pending.queued.complete = False
    fusemax.attention(many, many, many, device=device, progress=progress)
    assert found and "must not be called inside a call of it" in str(found[0])
    works(device)


def test_close_from_progress(device: fusemax.Device) -> None:
    with pytest.raises(DeviceClosedError):
        fusemax.attention(X, X, X, device=device, progress=lambda done, total: device.close())
    with pytest.raises(DeviceClosedError):
        fusemax.attention(X, X, X, device=device)


@pytest.mark.parametrize("delay", np.linspace(0.001, 0.2, 12))
def test_abort_from_a_signal_handler(device: fusemax.Device, delay: float) -> None:
    """At any moment of a call: it fails, or had not begun, or had ended before."""
    reached: list[tuple[int, int]] = []  # jobs done and all jobs, as progress has told
    fired: list[tuple[int, int]] = []

    def handler(*_: object) -> None:
        fired.extend(reached[-1:] or [(0, 1)])
        device.abort()

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        many = np.concatenate([X] * 200)
        timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        try:
            fusemax.attention(
                many, many, many, device=device, timeout=30, progress=lambda done, total: reached.append((done, total))
            )
        except AbortFaultError:
            assert fired
        else:
            assert not any(0 < done < 0.9 * total for done, total in fired)
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    works(device)


def test_a_call_that_finds_the_machine_taken_leaves_nothing(device: fusemax.Device) -> None:
    """As one from a signal handler while its thread has the machine, but not in a call of its own."""
    with device.driver.queue._turns.turn(), pytest.raises(ReentrantCallError):
        fusemax.attention(X, X, X, device=device)
    works(device)


def test_calls_from_a_signal_handler_end(device: fusemax.Device) -> None:
    """At whatever moment it comes: a result or an error, no hang."""
    outcomes: set[str] = set()
    calls = [
        lambda: fusemax.attention(X[:, :2], X, X, device=device),
        lambda: device.submit(X[:, :2], X, X).result(),
        lambda: device.counters,
        lambda: device.abort(),
    ]

    def handler(*_: object) -> None:
        try:
            calls[int(rng.integers(4))]()
            outcomes.add("done")
        except (ReentrantCallError, AbortFaultError) as error:
            outcomes.add(type(error).__name__)
        finally:
            idle.set()

    idle = threading.Event()
    rng = np.random.default_rng(2)
    before = signal.signal(signal.SIGUSR1, handler)
    over = threading.Event()

    def shoot() -> None:
        random = np.random.default_rng(3)
        while not over.is_set():
            idle.clear()
            os.kill(os.getpid(), signal.SIGUSR1)
            idle.wait()
            time.sleep(random.random() * 0.02)

    thread = threading.Thread(target=shoot)
    thread.start()
    try:
        for _ in range(30):
            try:
                device.submit(X, X, X).result(90)
                fusemax.attention(X, X, X, device=device, timeout=90)
            except AbortFaultError:
                pass
    finally:
        over.set()
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    assert "ReentrantCallError" in outcomes
    works(device)


def test_a_submission_in_a_cycle_is_dropped_inside_another_call(device: fusemax.Device) -> None:
    """Many times; the collector runs wherever memory is allocated."""
    x = X[:1, :2]
    expected = fusemax.attention(x, x, x, device=device)
    thresholds = gc.get_threshold()
    gc.set_threshold(5, 2, 2)
    try:
        for _ in range(300):
            cycle: dict[str, object] = {"call": device.submit(x, x, x)}
            cycle["self"] = cycle
            del cycle
            np.testing.assert_array_equal(fusemax.attention(x, x, x, device=device), expected)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()
    device.submit(x, x, x).result(30)
    # The program that submit has reserved is left.
    assert device.driver.memory.reserved_bytes <= 4096


def test_a_fork_cannot_use_the_device(device: fusemax.Device) -> None:
    submission = device.submit(X, X, X)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        found = []
        for call in (
            lambda: fusemax.attention(X, X, X, device=device),
            lambda: device.submit(X, X, X),
            lambda: submission.result(),
            lambda: device.counters,
            lambda: device.abort(),
        ):
            try:
                call()
                found.append("done")
            except ForkedDeviceError:
                found.append("refused")
            except BaseException as error:
                found.append(repr(error))
        device.close()
        os.write(write, " ".join(found).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1000).decode() == "refused " * 4 + "refused"
    os.close(read)
    os.close(write)
    assert submission.result(30).shape == X.shape
    works(device)


def test_abort_of_a_call_that_is_not_queued_yet(device: fusemax.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """As from a handler that comes while arrays are copied."""
    put_rows = device.driver._arrays.put_rows

    def interrupted(*arguments, **options) -> None:
        device.abort()
        put_rows(*arguments, **options)

    monkeypatch.setattr(device.driver._arrays, "put_rows", interrupted)
    odd = X[..., :7]
    with pytest.raises(AbortFaultError):
        fusemax.attention(odd, odd, odd, device=device)
    submission = device.submit(odd, odd, odd)
    with pytest.raises(AbortFaultError):
        submission.result(30)
    monkeypatch.undo()
    works(device)


def test_result_after_close(device: fusemax.Device) -> None:
    taken, left = device.submit(X, X, X), device.submit(X, X, X)
    first = taken.result(30)
    device.close()
    assert taken.result() is first
    for call in (left.result, left.done):
        with pytest.raises(DeviceClosedError, match="the device must be open, but was closed"):
            call()
    complete = left._pending.queued.complete
    left._pending.queued.complete = True
    with pytest.raises(DeviceClosedError):
        left.result()
    left._pending.queued.complete = complete


def test_close_while_others_wait(device: fusemax.Device) -> None:
    many = np.concatenate([X] * 400)
    errors: list[BaseException | None] = []

    def work() -> None:
        try:
            fusemax.attention(many, many, many, device=device, timeout=30)
            errors.append(None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    device.close()
    for thread in threads:
        thread.join(30)
    assert [type(error) for error in errors] == [DeviceClosedError] * 3


def test_what_interrupts_a_submit_leaves_no_memory_taken(device: fusemax.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    device.submit(X, X, X).result(30)
    before = device.driver.memory.reserved_bytes
    ring = device.driver.queue.ring.ring

    def interrupted() -> None:
        ring()
        raise KeyboardInterrupt

    monkeypatch.setattr(device.driver.queue.ring, "ring", interrupted)
    with pytest.raises(KeyboardInterrupt):
        device.submit(X, X, X)
    # The machine is at it, so its memory is still taken.
    assert device.driver.memory.reserved_bytes > before
    monkeypatch.undo()
    device.submit(X, X, X).result(30)
    device.submit(X, X, X).result(30)
    assert device.driver.memory.reserved_bytes == before

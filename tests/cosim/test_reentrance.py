"""What interrupts a call on the simulated Verilog: aborts and calls from progress and signal handlers, forks."""

from __future__ import annotations

import os
import signal
import threading

import pytest

import fusemax
from fusemax.errors import AbortFaultError, DeviceClosedError, ForkedDeviceError, ReentrantCallError

pytestmark = pytest.mark.cosim

#: Some seconds.
LONG = {"queries": 200, "keys": 200, "e": 64, "leading": (4,)}


def test_abort_and_calls_from_progress(open_pair, arrays) -> None:
    pair = open_pair()
    small, told = arrays(5, 6, 7), []

    def progress(done: int, total: int) -> None:
        assert pair.rtl.counters.cycles > 0
        for call in (lambda: fusemax.attention(*small, device=pair.rtl), lambda: pair.rtl.submit(*small)):
            with pytest.raises(ReentrantCallError):
                call()
            told.append(done)
        if len(told) == 4:
            pair.rtl.abort()

    with pytest.raises(AbortFaultError):
        fusemax.attention(*arrays(**LONG), device=pair.rtl, progress=progress)
    assert len(told) == 4
    pair(*small)


@pytest.mark.parametrize("delay", [0.05, 0.3])
def test_abort_from_a_signal_handler(open_pair, arrays, delay: float) -> None:
    pair = open_pair()
    before = signal.signal(signal.SIGUSR1, lambda *_: pair.rtl.abort())
    try:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(AbortFaultError):
            fusemax.attention(*arrays(**LONG), device=pair.rtl)
    finally:
        signal.signal(signal.SIGUSR1, before)
    pair(*arrays(5, 6, 7))


def test_a_fork_gets_an_error_and_the_parent_goes_on(open_pair, arrays) -> None:
    pair = open_pair()
    small = arrays(5, 6, 7)
    submission = pair.rtl.submit(*small)
    child = os.fork()
    if child == 0:
        status = 0
        for call in (
            lambda: fusemax.attention(*small, device=pair.rtl),
            submission.result,
            lambda: pair.rtl.counters,
            lambda: pair.rtl.transport.read_register(0),
        ):
            try:
                call()
                status = 1
            except ForkedDeviceError:
                pass
            except BaseException:
                status = 2
        pair.rtl.close()
        pair.rtl.transport.close()
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert submission.result(60).shape == small[0].shape[:-1] + small[2].shape[-1:]
    pair(*small)


def test_close_by_another_thread(open_pair, arrays) -> None:
    pair = open_pair()
    threading.Timer(0.3, pair.rtl.close).start()
    with pytest.raises(DeviceClosedError):
        fusemax.attention(*arrays(**LONG), device=pair.rtl)
    with pytest.raises(DeviceClosedError):
        pair.rtl.submit(*arrays(5, 6, 7))

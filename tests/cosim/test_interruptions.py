"""Timeouts, Ctrl-C, and simulators and hosts that end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from import_path import import_path

import fusemax
from fusemax.errors import DeviceTimeoutError
from fusemax_sim import SimulatorDied

pytestmark = pytest.mark.cosim

#: About a second.
LONG = {"queries": 200, "keys": 200, "e": 64}


def running(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be collected is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_timeout_comes_in_time_and_the_next_call_is_right(open_pair, arrays) -> None:
    pair = open_pair()
    small = arrays(5, 6, 7)
    pair(*small)
    start = time.monotonic()
    with pytest.raises(
        DeviceTimeoutError,
        match=r"^the device must be done within 0.1 s, but is not; give it more",
    ):
        fusemax.attention(*arrays(**LONG, leading=(2,)), device=pair.rtl, timeout=0.1)
    assert 0.1 <= time.monotonic() - start < 2
    # This one, too, ends while the machine is still at work.
    with pytest.raises(DeviceTimeoutError):
        fusemax.attention(*small, device=pair.rtl, timeout=0.01)
    pair(*small)
    assert pair.rtl.counters.jobs == 1
    pair(*arrays(**LONG))


def test_ctrl_c_and_the_next_call_is_right(open_pair, arrays) -> None:
    pair = open_pair()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        fusemax.attention(*arrays(**LONG, leading=(4,)), device=pair.rtl)
    assert time.monotonic() - start < 2.5
    pair(*arrays(5, 6, 7))
    assert pair.rtl.counters.jobs == 1


def test_a_simulator_that_is_killed(open_pair, arrays) -> None:
    pair = open_pair()
    pid = pair.rtl.transport._simulator.pid
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    with pytest.raises(SimulatorDied, match="the simulator was ended by SIGKILL"):
        fusemax.attention(*arrays(**LONG, leading=(4,)), device=pair.rtl)
    assert not running(pid)
    with pytest.raises(SimulatorDied, match="the simulator was closed"):
        fusemax.attention(*arrays(5, 6, 7), device=pair.rtl)


SCRIPT = """
import numpy as np
import fusemax
q, k, v = (np.random.default_rng(seed).standard_normal((20, 200, 64), np.float32) for seed in range(3))
with fusemax.open("rtl", config="tiny") as device:
    print(device.transport._simulator.pid, flush=True)
    fusemax.attention(q, k, v, device=device)
"""


@pytest.mark.parametrize(("signal_number", "reason"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGKILL, "")])
def test_a_host_that_ends_leaves_no_process(open_pair, signal_number: signal.Signals, reason: str) -> None:
    open_pair()  # Builds the simulator if need be.
    host = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": import_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    pid = int(host.stdout.readline())
    time.sleep(0.5)
    assert running(pid)
    host.send_signal(signal_number)
    _, errors = host.communicate(timeout=10)
    assert reason in errors
    end = time.monotonic() + 5
    while running(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not running(pid)


def test_progress_counts_tiles(open_pair, arrays) -> None:
    pair = open_pair()
    seen: list[tuple[int, int]] = []
    q, k, v = arrays(**LONG)
    told = fusemax.attention(q, k, v, device=pair.rtl, progress=lambda done, total: seen.append((done, total)), timeout=60)
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == (2500, 2500)
    np.testing.assert_array_equal(told, pair(q, k, v))

"""A pool of simulators is one device: bits, errors, counters; what is lost is done again; nothing is left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest
from attention_problems import Problem, problems
from hypothesis import HealthCheck, given, settings
from import_path import import_path

import fusemax
from fusemax import State
from fusemax.errors import (
    AbortFaultError,
    DeviceTimeoutError,
    ForkedDeviceError,
    MismatchError,
    NonFiniteError,
    ReadFaultError,
    ScoreOverflowError,
    WriteFaultError,
)
from fusemax.spec import CONFIGS, COUNTERS, DESCRIPTOR_BYTES, Descriptor
from fusemax_sim import SimulatorDied, WorkerLost
from fusemax_sim.pool import simulators

pytestmark = pytest.mark.cosim

PROBLEMS = max(1, int(os.environ.get("FUSEMAX_RTL_PROBLEMS", "50")) // 5)
TIMEOUT_S = 120.0
#: What the machine does in any pieces: cycles, and slots in which nothing was issued, are those of every piece by itself.
WORK_COUNTERS = [
    name for name, _ in COUNTERS if not name.startswith("stall_") and name not in ("cycles", "idle", "slots_empty")
]


@pytest.fixture(scope="module")
def pool() -> Iterator[fusemax.Device]:
    with fusemax.open("rtl", "tiny", workers=2) as device:
        yield device


@pytest.fixture(scope="module")
def model() -> Iterator[fusemax.Device]:
    with fusemax.open("model", "tiny") as device:
        yield device


def parts(result: Any) -> list[np.ndarray]:
    """Bits of everything that a call has given."""
    arrays: list[np.ndarray] = []
    for each in result if isinstance(result, tuple) else (result,):
        arrays += [each.max, each.denominator, each.numerator] if isinstance(each, State) else [each]
    return [array.view(f"u{array.itemsize}") for array in arrays]


def assert_equal(found: Any, expected: Any) -> None:
    assert len(parts(found)) == len(parts(expected))
    for ours, theirs in zip(parts(found), parts(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def simulators_under(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children(recursive=True) if child.name() == "simulator"]


def wait_until(is_so: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- results and counters ---------------------------------------------------------------------------------------------


def test_any_call_has_the_bits_and_counts_of_one_device(pool: fusemax.Device, model: fusemax.Device) -> None:
    """Of random calls, whose heads are cut into pieces of one."""

    @settings(max_examples=PROBLEMS, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(problems(configs=("tiny",)))
    def compare(problem: Problem) -> None:
        assert_equal(problem.run(pool, timeout=TIMEOUT_S), problem.run(model))
        names = [name for name in WORK_COUNTERS if name != "bytes_read"]
        assert {name: pool.counters.values[name] for name in names} == {name: model.counters.values[name] for name in names}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fusemax_sim.pool.piece.LEAST_SLOTS", 1)
        compare()


def test_counters_do_not_depend_on_the_number_of_workers(arrays, monkeypatch) -> None:
    monkeypatch.setattr("fusemax_sim.pool.piece.LEAST_SLOTS", 1)
    q, k, v = arrays(20, 30, 8, leading=(2, 3))
    counted, found = [], []
    # A machine that has nothing loaded reads its program, so each device is new.
    for workers in (1, 2, None):
        with fusemax.open("rtl", "tiny", workers=workers) as device:
            for options in ({}, {"causal": True, "prefix": 3}, {"key_lengths": [30, 7]}):
                found.append(fusemax.attention(q, k, v, device=device, **options))
                counted.append(device.counters.values)
    for call in range(3):
        one, two, device = counted[call::3]
        assert one == two
        assert {name: one[name] for name in WORK_COUNTERS} == {name: device[name] for name in WORK_COUNTERS}
        assert one["cycles"] > device["cycles"]
        for other in found[call::3]:
            assert_equal(other, found[call])


def test_a_job_that_is_one_piece_has_all_counters_of_one_device(arrays) -> None:
    q, k, v = arrays(9, 7, 6, leading=(2,))
    with fusemax.open("rtl", "tiny", workers=1) as pool, fusemax.open("rtl", "tiny") as device:
        for each in (pool, device):
            fusemax.attention(q, k, v, device=each)
        assert pool.counters == device.counters


def test_submissions_and_a_cache(pool: fusemax.Device, model: fusemax.Device, arrays) -> None:
    q, k, v = arrays(6, 32, 8, leading=(2,))
    for device in (pool, model):
        calls = [device.submit(q, k, v, causal=True, query_offset=offset) for offset in (26, 3)]
        with fusemax.KVCache(device, heads=2, e=8, f=8, page_size=8, pages=8) as cache:
            for sequence in range(2):
                cache.allocate(sequence)
                cache.append(sequence, k[:, : 20 + sequence], v[:, : 20 + sequence])
            attended = cache.attend(np.stack([q[:, :1], q[:, 1:2]]), [0, 1], causal=True)
        results = [*(call.result(TIMEOUT_S) for call in calls), attended, calls[0].cycles < calls[1].cycles]
        if device is pool:
            found = results
    for ours, theirs in zip(found[:-1], results[:-1], strict=True):
        assert_equal(ours, theirs)
    assert found[-1] and results[-1]


def test_progress_is_of_the_whole_call(pool: fusemax.Device, arrays) -> None:
    q, k, v = arrays(60, 60, 64, leading=(6,))
    seen: list[tuple[int, int]] = []
    fusemax.attention(q, k, v, device=pool, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (6 * 15 * 15, 6 * 15 * 15)
    assert len({done for done, _ in seen}) >= 3


# -- errors -----------------------------------------------------------------------------------------------------------


def test_scores_out_of_range_and_the_next_call(pool: fusemax.Device, model: fusemax.Device, arrays) -> None:
    q, k, v = arrays(5, 6, 7, leading=(3,))
    with pytest.raises(ScoreOverflowError, match="choose a smaller scale"):
        fusemax.attention(q * np.float32([1, 1e9, 1])[:, None, None], k, v, device=pool)
    assert_equal(fusemax.attention(q, k, v, device=pool), fusemax.attention(q, k, v, device=model))
    with pytest.raises(NonFiniteError):
        fusemax.attention(q, k, v * np.float32(np.inf), device=pool)


@pytest.mark.parametrize(
    ("kind", "array", "error"), [("read_errors", "k", ReadFaultError), ("write_errors", "o", WriteFaultError)]
)
def test_a_fault_is_that_of_one_device(arrays, monkeypatch, kind: str, array: str, error: type[Exception]) -> None:
    """The second of three heads reads or writes where the memory fails; a call that lies elsewhere is right."""
    monkeypatch.setattr("fusemax_sim.pool.piece.LEAST_SLOTS", 1)
    wrong, right = arrays(16, 24, 8, leading=(3,)), arrays(4, 4, 8)
    with fusemax.open("model", "tiny") as model:
        fusemax.attention(*wrong, device=model)
        job = Descriptor.unpack(int.from_bytes(model.transport.memory[:DESCRIPTOR_BYTES].tobytes(), "little"))
        first = getattr(job, f"{array}_address") + getattr(job, f"{array}_head_stride") + 16
        expected = fusemax.attention(*right, device=model)
    memory = fusemax.Memory(**{kind: (first, first + 8)})
    told = []
    for workers in (2, None):
        with fusemax.open("rtl", "tiny", memory=memory, workers=workers) as device:
            with pytest.raises(error) as caught:
                fusemax.attention(*wrong, device=device)
            told.append((caught.value.address, caught.value.job))
            assert_equal(fusemax.attention(*right, device=device, timeout=TIMEOUT_S), expected)
    assert told[0] == told[1] == (first, 0)


def test_timeout_and_abort(pool: fusemax.Device, model: fusemax.Device, arrays) -> None:
    long, short = arrays(200, 200, 64, leading=(4,)), arrays(5, 6, 7)
    expected = fusemax.attention(*short, device=model)
    start = time.monotonic()
    with pytest.raises(DeviceTimeoutError):
        fusemax.attention(*long, device=pool, timeout=0.2)
    assert time.monotonic() - start < 2
    assert_equal(fusemax.attention(*short, device=pool), expected)
    mine = simulators_under(os.getpid())
    threading.Timer(0.3, pool.abort).start()
    with pytest.raises(AbortFaultError):
        fusemax.attention(*arrays(900, 900, 64, leading=(4,)), device=pool)
    # A head of these takes a minute, and is not waited for.
    wait_until(lambda: not any(map(running, mine)), 20)
    assert_equal(fusemax.attention(*short, device=pool), expected)


def test_ctrl_c(pool: fusemax.Device, model: fusemax.Device, arrays) -> None:
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        fusemax.attention(*arrays(200, 200, 64, leading=(4,)), device=pool)
    pool.abort()
    short = arrays(5, 6, 7)
    assert_equal(fusemax.attention(*short, device=pool), fusemax.attention(*short, device=model))


# -- what is lost -----------------------------------------------------------------------------------------------------


def test_a_simulator_that_is_killed_is_replaced(pool: fusemax.Device, model: fusemax.Device, arrays) -> None:
    q, k, v = arrays(120, 120, 64, leading=(4,))
    mine = simulators_under(os.getpid())
    threading.Timer(0.3, lambda: [os.kill(pid, signal.SIGKILL) for pid in mine]).start()
    assert_equal(fusemax.attention(q, k, v, device=pool), fusemax.attention(q, k, v, device=model))
    assert not any(map(running, mine))
    assert pool.counters.tiles == 4 * 30 * 30


def test_simulators_that_are_killed_again_and_again(model: fusemax.Device, arrays) -> None:
    """The call fails, and says so; the next one is right."""
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.05):
            for pid in simulators_under(os.getpid()):
                os.kill(pid, signal.SIGKILL)

    with fusemax.open("rtl", "tiny", workers=1) as pool:
        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(SimulatorDied, match="3 simulators have died under the same part of a call"):
                fusemax.attention(*arrays(200, 200, 64, leading=(4,)), device=pool)
        finally:
            over.set()
            killer.join()
        short = arrays(5, 6, 7)
        assert_equal(fusemax.attention(*short, device=pool), fusemax.attention(*short, device=model))


def test_a_worker_that_is_killed(cluster, model: fusemax.Device, arrays) -> None:
    """One of a scheduler's two in the midst of a call: the other one does what it was at; then there is none."""
    q, k, v = arrays(120, 120, 64, leading=(6,))
    victim, other = cluster.workers
    with fusemax.open("rtl", "tiny", scheduler=cluster.address) as pool:
        assert all(len(simulators_under(worker.pid)) == 1 for worker in cluster.workers)
        orphans = simulators_under(victim.pid)
        killed = []

        def kill(done: int, total: int) -> None:
            if not killed and done > 0:
                killed.append(done)
                os.kill(victim.pid, signal.SIGKILL)

        assert_equal(fusemax.attention(q, k, v, device=pool, progress=kill), fusemax.attention(q, k, v, device=model))
        assert 0 < killed[0] < 6 * 900
        assert victim.wait(10) == -signal.SIGKILL
        wait_until(lambda: not any(map(running, orphans)))
        last = simulators_under(other.pid)
        assert last
    wait_until(lambda: not any(map(running, last)))
    assert other.poll() is None


def test_a_worker_that_is_killed_too_often(request, monkeypatch, model: fusemax.Device, arrays) -> None:
    """Here that is once. The call fails, and says so; the next one is right."""
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "0")
    cluster = request.getfixturevalue("cluster")
    with fusemax.open("rtl", "tiny", scheduler=cluster.address) as pool:
        threading.Timer(0.5, cluster.workers[0].kill).start()
        with pytest.raises(WorkerLost, match="a part of the call was lost with its worker, 1 time: "):
            fusemax.attention(*arrays(200, 200, 64, leading=(8,)), device=pool)
        short = arrays(5, 6, 7)
        assert_equal(fusemax.attention(*short, device=pool), fusemax.attention(*short, device=model))


def test_workers_with_other_sources(monkeypatch) -> None:
    monkeypatch.setattr(simulators, "emission_digest", lambda config: "another")
    machine = simulators.Machine("pool", CONFIGS["tiny"], None, 1 << 16, None, "ours")
    with pytest.raises(MismatchError, match="all workers must have the sources of the pool's Verilog, ours, not another"):
        simulators.begin_simulator(machine)
    simulators.end_simulators("pool")


def test_simulators_end_when_their_pool_is_gone(monkeypatch, model: fusemax.Device, arrays) -> None:
    monkeypatch.setattr(simulators, "IDLE_SECONDS", 0.2)
    others = set(simulators_under(os.getpid()))  # of other tests' devices
    with fusemax.open("rtl", "tiny", workers=2) as pool:
        wait_until(lambda: set(simulators_under(os.getpid())) <= others)
        short = arrays(5, 6, 7)
        assert_equal(fusemax.attention(*short, device=pool), fusemax.attention(*short, device=model))


# -- what is left behind ----------------------------------------------------------------------------------------------


def test_close_leaves_nothing(arrays, tmp_path, monkeypatch) -> None:
    """Also in the midst of a call of another thread; nor does a pool that is forgotten."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for how in ("idle", "in a call", "forgotten"):
        others = set(simulators_under(os.getpid()))  # of other tests' devices
        pool = fusemax.open("rtl", "tiny", workers=2)
        mine = set(simulators_under(os.getpid())) - others
        assert len(mine) == 2
        if how == "in a call":
            errors: list[BaseException] = []

            def call(pool: fusemax.Device = pool, errors: list[BaseException] = errors) -> None:
                try:
                    fusemax.attention(*arrays(200, 200, 64, leading=(4,)), device=pool)
                except BaseException as raised:
                    errors.append(raised)

            thread = threading.Thread(target=call)
            thread.start()
            time.sleep(0.3)
            pool.close()
            thread.join(10)
            assert [type(error).__name__ for error in errors] == ["DeviceClosedError"]
        elif how == "idle":
            pool.close()
            pool.close()
        del pool
        gc.collect()
        wait_until(lambda mine=mine: not any(map(running, mine)))
        wait_until(lambda: not list(tmp_path.iterdir()))


SCRIPT = """
import os, sys
import numpy as np
import fusemax
q, k, v = (np.random.default_rng(seed).standard_normal((20, 200, 64), np.float32) for seed in range(3))
device = fusemax.open("rtl", config="tiny", workers=2)
print("open", flush=True)
fusemax.attention(q, k, v, device=device)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_host_that_ends_leaves_no_simulator(pool: fusemax.Device, number: signal.Signals) -> None:
    """A script without a guard around its main part, which opens a pool and never closes it."""
    host = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": import_path()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "open\n"
    time.sleep(0.5)
    theirs = simulators_under(host.pid)
    assert len(theirs) == 2
    host.send_signal(number)
    host.communicate(timeout=20)
    wait_until(lambda: not any(map(running, theirs)))


def test_a_fork_cannot_use_it(pool: fusemax.Device, model: fusemax.Device, arrays) -> None:
    short = arrays(5, 6, 7)
    child = os.fork()
    if not child:
        try:
            fusemax.attention(*short, device=pool)
        except ForkedDeviceError:
            pool.close()
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert_equal(fusemax.attention(*short, device=pool), fusemax.attention(*short, device=model))


# -- arguments --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"workers": 0}, ValueError, "workers must be at least 1, not 0"),
        ({"workers": "2"}, TypeError, "workers must be an integer, not '2'"),
        ({"scheduler": 8786}, TypeError, "scheduler must be the address of a Dask scheduler, not 8786"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, ValueError, "workers must be given for a local cluster only"),
        ({"workers": 2, "trace": "a.fst"}, ValueError, "trace must be None for a pool, since a waveform is of one simulator"),
        ({"workers": 2, "memory": 60}, TypeError, r"memory must be a fusemax\.Memory or None, not 60"),
        ({"workers": 2, "kind": "model"}, ValueError, "workers must be None for the model, which has no signals, not 2"),
        ({"scheduler": "tcp://a:1", "kind": "board"}, ValueError, "scheduler must be None for a board"),
        ({"workers": 2, "memory": fusemax.Memory(width_bits=32)}, ValueError, "width_bits must be the device's bus_bits = 64"),
    ],
)
def test_wrong_arguments(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fusemax.open(**{"kind": "rtl", "config": "tiny"} | arguments)


def test_a_scheduler_that_does_not_answer(monkeypatch) -> None:
    monkeypatch.setattr("fusemax.evaluation.cluster.CONNECT_SECONDS", 0.2)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:1"):
        fusemax.open("rtl", "tiny", scheduler="tcp://127.0.0.1:1")

"""The host's side: registers, waits, timeouts, and processes that end however they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from import_path import import_path

from fusemax_sim import Memory, ProtocolViolation, RegisterError, RtlTransport, SimulationTimeout, SimulatorDied

pytestmark = pytest.mark.cosim

#: Opens a conftest.Copier.
Open = Callable[..., Any]


def running(pid: int) -> bool:
    """Whether there is such a process; one that only waits to be collected is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


# -- registers and time ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stall_probability", [0.0, 0.7])
def test_registers_keep_what_is_written(open_copier: Open, stall_probability: float) -> None:
    copier = open_copier(stall_probability=stall_probability)
    assert copier.device.read_register(0) == 0x46584D41
    copier["source"] = 0xFFFFFFFF
    copier["target"] = 0x12345678
    assert copier["source"] == 0xFFFFFFFF


def test_an_error_response_is_an_exception(open_copier: Open) -> None:
    device = open_copier().device
    with pytest.raises(RegisterError, match=r"^register read at offset 0x804 was answered with SLVERR$"):
        device.read_register(0x804)
    with pytest.raises(RegisterError, match=r"^register write at offset 0x800 was answered with SLVERR$"):
        device.write_register(0x800, 1)
    assert device.read_register(0) == 0x46584D41


@pytest.mark.parametrize("offset", [-4, 2, 4096])
def test_offsets_are_checked(open_copier: Open, offset: int) -> None:
    with pytest.raises(ValueError, match=rf"^offset must be a multiple of 4 from 0 to 4092, not {offset}$"):
        open_copier().device.read_register(offset)


def test_values_are_checked(open_copier: Open) -> None:
    with pytest.raises(ValueError, match=r"^value must be from 0 to 2\^32 - 1, not -1$"):
        open_copier().device.write_register(0, -1)


def test_step_runs_exactly_so_many_cycles(open_copier: Open) -> None:
    device = open_copier().device
    for cycles in (1, 2, 12345):
        before = device.cycle
        device.step(cycles)
        assert device.cycle == before + cycles


def test_testbench_cycles_agree_with_the_device(open_copier: Open) -> None:
    copier = open_copier()
    assert copier.device.testbench_cycles == 0
    for words in (100, 10):
        assert copier.copy(words)
        # The stand-in sees the doorbell a cycle after it was accepted, and counts until a cycle before the interrupt.
        assert copier.device.testbench_cycles == copier["cycles"] + 2
        copier["status"] = 3
        assert not copier.device.interrupt


def test_time_stands_still_between_calls(open_copier: Open) -> None:
    def run(pause_s: float) -> list[int]:
        copier, cycles = open_copier(stall_probability=0.2), []
        for _ in range(3):
            copier["delay"] = 700
            assert copier.copy(50)
            time.sleep(pause_s)
            copier["status"] = 1
            cycles.append(copier.device.cycle)
        return cycles

    assert run(0.0) == run(0.05)


def test_progress_is_reported_in_order(open_copier: Open) -> None:
    copier = open_copier()
    copier["delay"] = 1_000_000
    copier.start(1)
    seen: list[int] = []
    copier.device.wait_interrupt(30, seen.append)
    assert len(seen) > 3
    assert seen == sorted(seen)
    assert seen[-1] == copier.device.cycle > 1_000_000


# -- waits that end otherwise ------------------------------------------------------------------------------------


def test_a_wait_ends_with_the_interrupt(open_copier: Open) -> None:
    copier = open_copier()
    copier["delay"] = 54321
    copier.start(1)
    before = copier.device.cycle
    copier.device.wait_interrupt(20)
    # The doorbell was accepted a little before its write was answered.
    assert 0 < copier.device.testbench_cycles - (copier.device.cycle - before) < 10
    before = copier.device.cycle
    copier.device.wait_interrupt(20)
    assert copier.device.cycle == before + 1


def test_a_timeout_comes_in_time_and_leaves_the_device_usable(open_copier: Open) -> None:
    copier = open_copier()
    start = time.monotonic()
    with pytest.raises(SimulationTimeout, match=r"^the interrupt did not come within 0.3 s \(cycle \d+\)$"):
        copier.device.wait_interrupt(0.3)
    assert 0.3 <= time.monotonic() - start < 2
    assert copier.copy(10)


def test_a_limit_in_cycles_is_exact(open_copier: Open) -> None:
    copier = open_copier()
    copier["delay"] = 5000
    copier.start(1)
    before = copier.device.cycle
    with pytest.raises(SimulationTimeout, match="did not come within 1234 cycles"):
        copier.device.wait_interrupt(max_cycles=1234)
    assert copier.device.cycle == before + 1234
    copier.device.wait_interrupt(max_cycles=10000)
    assert copier.device.interrupt


def test_the_device_can_be_used_after_ctrl_c(open_copier: Open) -> None:
    copier = open_copier()
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        copier.device.wait_interrupt()
    assert time.monotonic() - start < 2
    copier["source"] = 0x1234
    assert [copier["source"], copier.device.read_register(0)] == [0x1234, 0x46584D41]
    assert copier.copy(10)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_simulator_is_an_exception(open_copier: Open, signal_number: signal.Signals) -> None:
    device = open_copier().device
    pid = device._simulator.pid
    threading.Timer(0.2, os.kill, (pid, signal_number)).start()
    with pytest.raises(SimulatorDied, match=f"the simulator was ended by {signal_number.name}; its log ends:"):
        device.wait_interrupt(20)
    assert not running(pid)
    with pytest.raises(SimulatorDied, match=r"^the simulator was closed$"):
        device.read_register(0)


def test_the_log_says_why_a_simulator_did_not_start(standin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusemax_sim.process.TOP", "no_such_top")
    with pytest.raises(SimulatorDied, match="no_such_top"):
        RtlTransport("tiny", memory_bytes=4096, verilog=standin)


def test_close_ends_the_process_and_may_come_twice(open_copier: Open) -> None:
    device = open_copier().device
    pid, memory = device._simulator.pid, device.memory
    device.close()
    assert not running(pid)
    device.close()
    memory[:8] = 1  # Still mapped.
    with pytest.raises(SimulatorDied, match=r"^the simulator was closed$"):
        device.wait_interrupt(1)


def test_close_ends_a_process_that_does_not_react(open_copier: Open) -> None:
    device = open_copier().device
    os.kill(device._simulator.pid, signal.SIGSTOP)
    start = time.monotonic()
    device.close()
    assert not running(device._simulator.pid)
    assert time.monotonic() - start < 5


def test_another_thread_may_close(open_copier: Open) -> None:
    device = open_copier().device
    threading.Timer(0.2, device.close).start()
    with pytest.raises(SimulatorDied, match=r"^the simulator was closed$"):
        device.wait_interrupt(20)


def test_several_devices_run_in_several_threads(open_copier: Open) -> None:
    copiers = [open_copier(seed=seed, stall_probability=0.1) for seed in range(3)]
    results = [False] * 3

    def work(index: int) -> None:
        results[index] = copiers[index].copy(1000, seed=index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 3


def test_a_lost_device_takes_its_simulator_along(open_copier: Open, standin: Path) -> None:
    device = RtlTransport("tiny", memory_bytes=4096, verilog=standin)
    pid = device._simulator.pid
    del device
    assert not running(pid)


SCRIPT = """
import sys
from pathlib import Path
from fusemax_sim import RtlTransport
device = RtlTransport("tiny", memory_bytes=4096, verilog=Path(sys.argv[1]))
print(device._simulator.pid, flush=True)
if sys.argv[2] != "exit":
    try:
        device.wait_interrupt()
    except KeyboardInterrupt:
        if sys.argv[2] == "wait":
            raise
        print(hex(device.read_register(0)))
"""


def start_host(standin: Path, action: str) -> tuple[subprocess.Popen[str], int]:
    environment = os.environ | {"PYTHONPATH": import_path()}
    host = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(standin), action],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert host.stdout is not None
    return host, int(host.stdout.readline())


@pytest.mark.parametrize(("signal_number", "reason"), [(signal.SIGINT, "KeyboardInterrupt"), (signal.SIGKILL, "")])
def test_a_host_that_ends_leaves_no_process(standin: Path, signal_number: signal.Signals, reason: str) -> None:
    host, pid = start_host(standin, "wait")
    time.sleep(0.3)
    assert running(pid)
    host.send_signal(signal_number)
    start = time.monotonic()
    _, errors = host.communicate(timeout=10)
    assert time.monotonic() - start < 2
    assert reason in errors
    assert wait_until(lambda: not running(pid), 3)


def test_ctrl_c_at_the_terminal_does_not_reach_the_simulator(standin: Path) -> None:
    host, _ = start_host(standin, "resume")
    time.sleep(0.3)
    os.killpg(host.pid, signal.SIGINT)
    assert host.communicate(timeout=10) == ("0x46584d41\n", "")


def test_an_interpreter_that_exits_leaves_no_process(standin: Path) -> None:
    host, pid = start_host(standin, "exit")
    assert host.communicate(timeout=10)[1] == ""
    assert host.returncode == 0
    assert not running(pid)


def test_nothing_is_left_in_the_temporary_directory(open_copier: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    copier = open_copier()
    assert copier.copy(10)
    copier.device.close()
    assert list(tmp_path.iterdir()) == []


# -- arguments ---------------------------------------------------------------------------------------------------


def test_a_memory_of_another_width_is_refused(standin: Path) -> None:
    with pytest.raises(ValueError, match=r"^width_bits must be the device's bus_bits = 64, not 128$"):
        RtlTransport("tiny", Memory(width_bits=128), verilog=standin)


@pytest.mark.parametrize("memory_bytes", [0, -8, 12])
def test_a_memory_of_broken_words_is_refused(standin: Path, memory_bytes: int) -> None:
    with pytest.raises(ValueError, match=rf"^memory_bytes must be a positive multiple of 8, not {memory_bytes}$"):
        RtlTransport("tiny", memory_bytes=memory_bytes, verilog=standin)


# -- waveform ----------------------------------------------------------------------------------------------------


def test_a_waveform_is_written(standin: Path, tmp_path: Path) -> None:
    path = tmp_path / "wave.vcd"
    with RtlTransport("tiny", trace=path, memory_bytes=4096, verilog=standin) as device:
        device.write_register(0x20, 0x5A5A5A5A)
    text = path.read_text()
    assert "$enddefinitions" in text
    for name in ("irq", "m_axi_araddr", "s_axil_wdata"):
        assert f" {name} " in text
    assert f"{0x5A5A5A5A:b}" in text


def test_a_timeout_with_a_waveform_keeps_it(standin: Path, tmp_path: Path) -> None:
    path = tmp_path / "wave.vcd"
    with pytest.raises(SimulationTimeout), RtlTransport("tiny", trace=path, memory_bytes=4096, verilog=standin) as device:
        device.wait_interrupt(max_cycles=1000)
    assert path.read_text().rstrip().rpartition("#")[2].splitlines()[0] > "1000"


def test_a_violation_is_kept_in_the_waveform(standin: Path, tmp_path: Path) -> None:
    path = tmp_path / "wave.vcd"
    with pytest.raises(ProtocolViolation), RtlTransport("tiny", trace=path, memory_bytes=4096, verilog=standin) as device:
        device.write_register(0x34, 12)
        device.step(10)
    assert f"{int.from_bytes(b's_axil_bvalid without a write', 'big'):b}" in path.read_text()

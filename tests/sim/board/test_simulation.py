"""The whole board system from its Verilog, its pins at a pseudo-terminal, and the real commands and driver in front of it."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.board import BitstreamError, PortError
from fusemax.board.connection import connect
from fusemax.errors import DeviceMemoryError
from fusemax.evaluation import minilm
from fusemax.spec import register
from fusemax_sim.board import BoardSimulation
from fusemax_sim.bridge import Noise

pytestmark = pytest.mark.cosim

CONFIG, MEMORY_BYTES = "tiny", 1 << 16


@pytest.fixture(scope="module")
def board() -> Iterator[BoardSimulation]:
    with BoardSimulation(CONFIG, memory_bytes=MEMORY_BYTES) as simulation:
        yield simulation


def command(board: BoardSimulation, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``fusemax board`` in another process."""
    line = ("--port", board.port, "--baud", str(board.baud))
    return subprocess.run(
        [sys.executable, "-m", "fusemax", "board", *arguments, *line, "--json"], capture_output=True, text=True, timeout=250
    )


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_the_command_tests_the_board(board: BoardSimulation) -> None:
    """Memory, random numbers, a MiniLM head, and decoding with a cache."""
    found = report(command(board, "test", "--config", CONFIG, "--decode", "2"))
    assert found["right"] is True
    names = [test["name"] for test in found["tests"]]
    assert [name.partition(",")[0] for name in names] == [
        "memory",
        "random numbers",
        "random numbers",
        "MiniLM layer 0",
        "decoding 2 tokens with a cache",
    ]
    assert "172 tokens" in names[3]
    assert all(test["right"] for test in found["tests"])
    assert found["line"]["repeated_requests"] == found["line"]["damaged"] == found["line"]["timeouts"] == 0
    assert 0 < found["compute"] < found["transfer"] < 1
    seen = board.seen
    assert seen.busy_cycles > 0 and seen.errors == 0


def test_what_the_board_says_of_itself(board: BoardSimulation) -> None:
    found = report(command(board, "info"))
    assert (found["rows"], found["columns"], found["max_e"], found["memory bytes"]) == (4, 4, 64, MEMORY_BYTES)
    assert found["is a fusemax"] is True


def test_another_configuration_is_refused(board: BoardSimulation) -> None:
    done = command(board, "test", "--config", "small")
    assert done.returncode == 1
    assert "the device's rows must be 8 as in 'small', not 4; load the bitstream of 'small'" in done.stderr
    with pytest.raises(BitstreamError, match="rows must be 8 as in 'small', not 4"):
        fusemax.open("board", "small", port=board.port, baud=board.baud)
    # The port is free again.
    with fusemax.open("board", CONFIG, port=board.port, baud=board.baud):
        pass


def test_a_port_has_one_user(board: BoardSimulation) -> None:
    with (
        fusemax.open("board", CONFIG, port=board.port, baud=board.baud),
        pytest.raises(PortError, match="close other programs"),
    ):
        fusemax.open("board", CONFIG, port=board.port, baud=board.baud)


def test_calls_are_cut_to_the_memory(board: BoardSimulation) -> None:
    """Heads that do not fit together are done one after the other, with the bits that they have together."""
    data = minilm.load()
    q, k, v = (array[0, :3, :20] for array in (data.q, data.k, data.v))
    progress: list[tuple[int, int]] = []
    transferred: list[tuple[int, int]] = []
    with (
        fusemax.open("model", CONFIG) as model,
        fusemax.open(
            "board",
            CONFIG,
            port=board.port,
            baud=board.baud,
            memory_bytes=1 << 14,
            transfer_progress=lambda done, size: transferred.append((done, size)),
        ) as device,
    ):
        result = fusemax.attention(q, k, v, device=device, progress=lambda done, tiles: progress.append((done, tiles)))
        expected = fusemax.attention(q, k, v, device=model)
        np.testing.assert_array_equal(result.view(np.uint16), expected.view(np.uint16))
        assert device.counters.jobs > 1
        assert device.counters.tiles == model.counters.tiles
        assert {tiles for _, tiles in progress} <= {model.counters.tiles}
        assert all(0 < done <= size for done, size in transferred)
        seconds = device.transport.seconds
        assert seconds.transfer > 0 and seconds.compute > 0
        with pytest.raises(
            DeviceMemoryError, match=r"the values need 6400 bytes and end at \d+, but the device memory has 16384"
        ):
            big = np.zeros((2, 100, 32), np.float32)
            fusemax.attention(big[:, :4], big, big.copy(), device=device)


def test_attention_systems(board: BoardSimulation) -> None:
    """Functions of several sweeps: two matrix products, and two sweeps of which the second has the first one's results."""
    q, k, v = (np.random.default_rng(seed).standard_normal((2, 11, 16), np.float32) for seed in range(3))
    with (
        fusemax.open("model", CONFIG) as model,
        fusemax.open("board", CONFIG, port=board.port, baud=board.baud, memory_bytes=1 << 15) as device,
    ):
        results = []
        for where in (device, model):
            counters: list[fusemax.Counters] = []
            flow = fusemax.flow_attention(q, k, v, device=where, counters=counters)
            alpha = fusemax.sink_rate(q, k, device=where, counters=counters).alpha
            assert [c.tiles > 0 for c in counters] == [True] * 4
            results.append((flow, alpha))
        for found, expected in zip(*results, strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_reset_empties_the_system_but_the_memory(board: BoardSimulation) -> None:
    """Also a machine that has stopped, which the LED of errors tells."""
    port, target = connect(board.port, board.baud)
    with contextlib.closing(port):
        target.reset()
        status, tail, size = (register(name).offset for name in ("STATUS", "RING_TAIL", "RING_SIZE_LOG2"))
        target.write_memory(0, b"no descriptor")
        target.write_registers(size, [9])
        before = board.seen.errors
        target.write_registers(tail, [1])
        assert target.read_registers(status)[0] & 0b11 == 0b10
        assert board.seen.errors == before + 1
        target.reset()
        assert target.read_registers(status) == target.read_registers(tail) == target.read_registers(size) == [0]
        assert target.read_memory(0, 13) == b"no descriptor"


def test_what_somebody_else_has_left_does_not_matter(board: BoardSimulation) -> None:
    port, target = connect(board.port, board.baud)
    target.write_registers(register("INTERRUPT_ENABLE").offset, [3])
    target.write_memory(5, b"left behind")
    port.close()
    with fusemax.open("board", CONFIG, port=board.port, baud=board.baud) as device:
        assert not device.transport.memory.any()
        before = board.seen.busy_cycles
        one = np.ones((1, 3, 8), np.float32)
        np.testing.assert_array_equal(fusemax.attention(one, one, one, device=device), one)
        assert board.seen.busy_cycles - before == device.counters.cycles > 0


def test_results_are_right_under_noise() -> None:
    """Bits flip, bytes are lost and others come, both ways: every repeat is counted, every bit is right."""
    noise = Noise(flip=4e-4, drop=2e-4, extra=2e-4, seed=5)
    with BoardSimulation(CONFIG, memory_bytes=MEMORY_BYTES, noise=noise) as board:
        found = report(command(board, "test", "--config", CONFIG, "--tokens", "16", "--decode", "1"))
        seen = board.seen
    assert found["right"] is True
    assert min(seen.flips, seen.drops, seen.extras) > 0
    assert found["line"]["repeated_requests"] > 0 and found["line"]["damaged"] > 0

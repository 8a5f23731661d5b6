"""Opening a board: the device behind its port, and an error of its own for whatever is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusemax
from fusemax.board import BitstreamError, BoardTimeoutError, PortError
from fusemax.board.connection import connect, look
from fusemax.bridge import LinkError, LinkTimeoutError
from fusemax.errors import DeviceError, MismatchError
from fusemax.spec import IDENTITY, register

BAUD = 115200


def opened(board: Any, config: str = "tiny", **options: Any) -> fusemax.Device:
    return fusemax.open("board", config, port=board.port, baud=BAUD, **options)


def test_results_are_those_of_the_model(make_board: Callable[..., Any]) -> None:
    q, k, v = (np.random.default_rng(n).standard_normal((3, 11, 16), np.float32) for n in range(3))
    moved: list[tuple[int, int]] = []
    with (
        opened(make_board(), transfer_progress=lambda *seen: moved.append(seen)) as device,
        fusemax.open(config="tiny") as model,
    ):
        assert device.transport.memory.size == 1 << 16
        result = fusemax.attention(q, k, v, device=device)
        np.testing.assert_array_equal(result.view(np.uint16), fusemax.attention(q, k, v, device=model).view(np.uint16))
        assert device.counters == model.counters
        assert device.transport.seconds.transfer > 0
    assert moved and all(0 < done <= size for done, size in moved)


def test_less_memory_may_be_used(make_board: Callable[..., Any]) -> None:
    board = make_board()
    with opened(board, memory_bytes=1 << 14) as device:
        assert device.transport.memory.size == 1 << 14
    with pytest.raises(ValueError, match="memory_bytes must be a multiple of 8 from 8 to the bridge's 65536, not 131072"):
        opened(board, memory_bytes=1 << 17)


def test_the_port_is_absent() -> None:
    with pytest.raises(PortError, match="port '/dev/absent' must be a serial port that can be opened"):
        fusemax.open("board", "tiny", port="/dev/absent")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IDENTITY", 0, "IDENTITY must be 0x46584d41, not 0x0; load the bitstream of 'tiny'"),
        ("VERSION", 1, "VERSION must be 0x3, not 0x1; load the bitstream of 'tiny'"),
        ("SHAPE", 9, "rows must be 4 as in 'tiny', not 9; load the bitstream of 'tiny'"),
        ("LIMITS", 64 | 32 << 10, "max_f must be 64 as in 'tiny', not 32; load the bitstream of 'tiny'"),
        ("OPTIONS", 1, "linear must be 0 as in 'tiny', not 1; load the bitstream of 'tiny'"),
    ],
)
def test_the_bitstream_is_another_one(make_board: Callable[..., Any], name: str, value: int, message: str) -> None:
    board = make_board()
    board.registers[register(name).offset] = value
    with pytest.raises(BitstreamError, match=message) as failure:
        opened(board)
    assert isinstance(failure.value, MismatchError)
    board.registers.clear()
    opened(board).close()


def test_nothing_answers(make_board: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fusemax.bridge.link.ATTEMPTS", 2)
    board = make_board()
    board.mute = True
    with pytest.raises(BoardTimeoutError, match=r"a bridge must answer at .* with 115200 baud, but none does; load") as failure:
        opened(board, latency_s=0.01)
    assert isinstance(failure.value, TimeoutError) and isinstance(failure.value, LinkError)
    board.mute = False
    opened(board).close()


def test_errors_are_of_three_kinds() -> None:
    kinds = (PortError, BitstreamError, BoardTimeoutError)
    assert all(issubclass(kind, DeviceError) for kind in kinds)
    assert not any(issubclass(one, other) for one in kinds for other in kinds if one is not other)


def test_what_a_board_says_of_itself(make_board: Callable[..., Any]) -> None:
    port, target = connect(make_board("small", 1 << 15).port, BAUD)
    machine = look(target)
    port.close()
    assert (machine.identity, machine.shape["rows"], machine.limits["max_e"]) == (IDENTITY, 8, 64)
    assert machine.state.memory_bytes == 1 << 15


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "board"}, TypeError, "port must be the name of a serial port, not None"),
        ({"kind": "board", "port": 3}, TypeError, "port must be the name of a serial port, not 3"),
        ({"kind": "board", "port": "x", "baud": -1}, ValueError, "baud must be positive, not -1"),
        (
            {"kind": "board", "port": "x", "trace": "y"},
            ValueError,
            "trace must be None for a board, which is not simulated, not",
        ),
        ({"port": "x"}, ValueError, "port must be None for the model, which has no signals, not 'x'"),
        ({"kind": "rtl", "baud": 9600}, ValueError, "baud must be None for the simulation, which has no serial line, not 9600"),
        ({"kind": "board", "port": "x", "memory_bytes": 100}, ValueError, "memory_bytes must be a multiple of 8"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        fusemax.open(**arguments)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("when", ["at once", "while the machine works"])
def test_a_board_that_falls_silent_under_a_call(
    make_board: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """The call ends though it has no time-out of its own."""
    monkeypatch.setattr("fusemax.bridge.link.ATTEMPTS", 3)
    board = make_board()
    one = np.ones((1, 3, 8), np.float32)
    polls = 0

    def falls_silent() -> None:
        nonlocal polls
        polls += 1
        board.mute = when == "at once" or polls > 2

    with opened(board, latency_s=0.01) as device:
        board.bridge.on_poll = falls_silent
        monkeypatch.setattr(board.model, "_step", lambda *_: False)  # It never ends.
        with pytest.raises(LinkTimeoutError, match=r"the bridge must say its state, but has not for .*; see to"):
            fusemax.attention(one, one, one, device=device)
        assert board.mute

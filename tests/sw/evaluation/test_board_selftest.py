"""The tests of a board pass on a sound one and find what is wrong on others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

import fusemax
from fusemax.board.connection import connect
from fusemax.evaluation.board_selftest import check_memory, check_results

BAUD = 115200


@pytest.mark.parametrize("broken", [None, "stuck bit", "missing address line", "swapped bytes"])
def test_memory(make_board: Callable[..., Any], broken: str | None) -> None:
    board = make_board()
    memory, size = board.model.memory, board.model.memory.size
    execute = board.bridge._execute

    def spoilt(request: Any) -> Any:
        result = execute(request)
        if broken == "stuck bit":
            memory[4099::8] &= 0x7F
        elif broken == "missing address line":
            memory[size // 2 :] = memory[: size // 2]
        elif broken == "swapped bytes":
            memory[:64] = 0
        return result

    board.bridge._execute = spoilt
    port, target = connect(board.port, BAUD)
    with closing(port):
        outcome = check_memory(target)
    assert outcome.right == (broken is None)
    assert outcome.seconds > 0


def test_results(make_board: Callable[..., Any]) -> None:
    with fusemax.open("board", "tiny", port=make_board().port, baud=BAUD) as device:
        outcomes = list(check_results(device, heads=2, tokens=20, decode=3))
    assert [outcome.name for outcome in outcomes] == [
        "random numbers, float32",
        "random numbers, bfloat16",
        "MiniLM layer 0, head 0, 20 tokens",
        "MiniLM layer 0, head 1, 20 tokens",
        "decoding 3 tokens with a cache",
    ]
    assert all(outcome.right and outcome.cycles > 0 for outcome in outcomes)


def test_a_wrong_bit_is_found(make_board: Callable[..., Any]) -> None:
    board = make_board()
    with fusemax.open("board", "tiny", port=board.port, baud=BAUD) as device:
        fetch = device.transport._fetch

        def spoilt(head: int | None) -> None:
            jobs = list(device.transport._outstanding)
            fetch(head)
            for job in jobs:
                device.transport.memory[job.start] ^= 1

        device.transport._fetch = spoilt
        assert not any(outcome.right for outcome in check_results(device, heads=1, tokens=10, decode=1))

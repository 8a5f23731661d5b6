"""Boards by name, and what does not fit them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fusemax.board import BOARDS, FitError, board_named
from fusemax.board.catalog import check_parameters
from fusemax.errors import FusemaxError
from fusemax.spec import CONFIGS, Config

ULX3S = BOARDS["ulx3s_85f"]


def test_boards_have_names() -> None:
    assert {"ulx3s_85f", "tang_primer_20k", "arty_a7_100"} <= set(BOARDS)
    assert all(board_named(name) is board and board.name == name for name, board in BOARDS.items())
    assert board_named(ULX3S) is ULX3S
    with pytest.raises(ValueError, match="board must be one of ulx3s_85f, arty_a7_100, tang_primer_20k, not 'icebreaker'"):
        board_named("icebreaker")
    with pytest.raises(TypeError, match="board must be a Board or a name, not 3"):
        board_named(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "memory_bytes", "what", "needed", "available"),
    [
        ("base", 1 << 13, "multipliers", 256, 156),
        ("tiny", 1 << 19, "block memories", 256, 208),
        (Config(rows=4, columns=4, bus_bits=1024), 852 << 11, "block memories", 896, 208),
    ],
)
def test_what_does_not_fit_is_told_in_numbers(config, memory_bytes: int, what: str, needed: int, available: int) -> None:
    config = CONFIGS[config] if isinstance(config, str) else config
    with pytest.raises(FitError, match=f"ulx3s_85f has {available} {what}, but {needed} are needed: ") as failure:
        check_parameters(ULX3S, config, memory_bytes)
    assert (failure.value.what, failure.value.needed, failure.value.available) == (what, needed, available)
    assert isinstance(failure.value, FusemaxError) and isinstance(failure.value, ValueError)


def test_what_fits_exactly_is_no_error() -> None:
    board = replace(ULX3S, multipliers=16, ram_blocks=8)
    check_parameters(board, CONFIGS["tiny"], 8 * 2048)
    with pytest.raises(FitError):
        check_parameters(board, CONFIGS["tiny"], 8 * 2048 + 4096)

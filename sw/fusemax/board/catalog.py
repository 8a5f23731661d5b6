"""The boards that a bitstream can be made for: what host and gateware both know of them."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FusemaxError
from ..planning.memory_map import LEAST_MEMORY_BYTES
from ..spec import CONFIGS, PAGE_BYTES, Config, ceil_div

__all__ = ["BOARDS", "Board", "FitError", "board_named", "check_parameters", "most_memory_bytes"]

#: Bytes in a block memory of 18 kbit that is eight bits wide.
RAM_BLOCK_BYTES = 2048


class FitError(FusemaxError, ValueError):
    """A machine does not fit a board.

    Members
    -------
    what : str
        Resource.
    needed, available : int or float
    """

    def __init__(self, board: Board, what: str, needed: float, available: float, advice: str) -> None:
        super().__init__(f"{board.name} has {available:g} {what}, but {needed:g} are needed: {advice}")
        self.what, self.needed, self.available = what, needed, available


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board.

    Members
    -------
    name, title
        In commands, and in full.
    part
        FPGA.
    tools
        What makes a bitstream.
    luts, registers, multipliers, ram_blocks
        Of the FPGA; the block memories have 18 kbit.
    clock_hz
        Of the system, by a PLL, if nothing else is asked for.
    baud
        Of the serial line, likewise.
    memory_bytes
        Of the memory, likewise.
    loader
        The board's name in openFPGALoader.
    config
        Machine of a bitstream, likewise: one that fits, beside the memory.
    """

    name: str
    title: str
    part: str
    tools: str
    luts: int
    registers: int
    multipliers: int
    ram_blocks: int
    clock_hz: float
    baud: int
    memory_bytes: int
    loader: str
    config: Config


BOARDS: dict[str, Board] = {
    board.name: board
    for board in (
        Board(
            name="ulx3s_85f",
            title="ULX3S with ECP5-85F",
            part="LFE5U-85F-6BG381",
            tools="Yosys, nextpnr-ecp5, ecppack",
            luts=83640,
            registers=83640,
            multipliers=156,
            ram_blocks=208,
            clock_hz=62.5e6,
            baud=3_000_000,
            memory_bytes=256 << 10,
            loader="ulx3s",
            config=CONFIGS["tiny"],
        ),
        Board(
            name="arty_a7_100",
            title="Arty A7-100T",
            part="XC7A100TI-1LCSG324",
            tools="Vivado (project); Yosys (synthesis only)",
            luts=63400,
            registers=126800,
            multipliers=240,
            ram_blocks=270,
            clock_hz=60e6,
            baud=3_000_000,
            memory_bytes=256 << 10,
            loader="arty_a7_100t",
            config=CONFIGS["tiny"],
        ),
        Board(
            name="tang_primer_20k",
            title="Tang Primer 20K dock",
            part="GW2A-LV18PG256C8/I7",
            tools="Yosys (synthesis only)",
            luts=20736,
            registers=15552,
            multipliers=48,
            ram_blocks=46,
            clock_hz=36e6,
            baud=1_000_000,
            memory_bytes=32 << 10,
            loader="tangprimer20k",
            config=Config(
                name="tang",
                rows=2,
                columns=2,
                max_e=32,
                max_f=32,
                query_tiles=1,
                contexts=2,
                bus_bits=32,
                outstanding_reads=2,
                outstanding_writes=2,
                score_bits=28,
            ),
        ),
    )
}


def board_named(board: str | Board) -> Board:
    """``board`` itself, or the named one.

    Raises
    ------
    TypeError
        If ``board`` is neither a :class:`Board` nor a string.
    ValueError
        If there is no board of that name.
    """
    if isinstance(board, Board):
        return board
    if not isinstance(board, str):
        raise TypeError(f"board must be a Board or a name, not {board!r}")
    if board not in BOARDS:
        raise ValueError(f"board must be one of {', '.join(BOARDS)}, not {board!r}")
    return BOARDS[board]


def most_memory_bytes(board: Board, config: Config) -> int:
    """Return the largest memory, in bytes, that all block memories of the FPGA together would hold.

    The machine's own memories take some of them, which only the synthesis tells.
    """
    return board.ram_blocks // config.bus_bytes * RAM_BLOCK_BYTES * config.bus_bytes


def check_parameters(board: Board, config: Config, memory_bytes: int) -> None:
    """Check what is known without synthesis: a multiplier for every PE, and the size of the memory and its blocks.

    Raises
    ------
    FitError
        If the FPGA has fewer.
    TypeError, ValueError
        If the memory is not a whole number of pages, or too small for any call.
    """
    if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
        raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
    if memory_bytes < LEAST_MEMORY_BYTES or memory_bytes % PAGE_BYTES:
        most = most_memory_bytes(board, config)
        limits = f"from {LEAST_MEMORY_BYTES} to {most}" if most else f"of at least {LEAST_MEMORY_BYTES}"
        raise ValueError(f"memory_bytes must be a multiple of {PAGE_BYTES} {limits}, not {memory_bytes}")
    words = memory_bytes // config.bus_bytes
    blocks = config.bus_bytes * ceil_div(words, RAM_BLOCK_BYTES)
    most = most_memory_bytes(board, config)
    smaller = f"memory_bytes must be at most {most}" if most else "choose a narrower bus"
    for what, needed, available, advice in (
        ("multipliers", config.rows * config.columns, board.multipliers, "choose fewer rows and columns"),
        ("block memories", blocks, board.ram_blocks, smaller),
    ):
        if needed > available:
            raise FitError(board, what, needed, available, advice)

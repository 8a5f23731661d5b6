"""FPGA boards: the serial port, opening, testing and loading. The gateware is in ``fusemax_hw.boards``."""

from .catalog import BOARDS, Board, FitError, board_named
from .connection import BitstreamError, BoardTimeoutError, open_board
from .loading import LoadError
from .port import BAUD, Port, PortError

__all__ = [
    "BAUD",
    "BOARDS",
    "BitstreamError",
    "Board",
    "BoardTimeoutError",
    "FitError",
    "LoadError",
    "Port",
    "PortError",
    "board_named",
    "open_board",
]

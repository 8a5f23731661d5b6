"""What joins a machine to somebody else's system, made from the manifest of its Verilog: FuseSoC core, page, C driver."""

from .board_page import board_page
from .core_file import core_file
from .page import page
from .write import write

__all__ = ["board_page", "core_file", "page", "write"]

"""What joins a machine to somebody else's system, made from the manifest of its Verilog: FuseSoC core, page, C driver."""

from .core_file import core_file
from .page import page
from .write import write

__all__ = ["core_file", "page", "write"]

"""Simulator of a board's system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusemax.spec import Config

from ..cpp_testbench import build_cpp_testbench

__all__ = ["build_board"]

BENCH = Path(__file__).parent / "verilog"


def build_board(config: Config, *, divisor: int, memory_bytes: int) -> Path:
    """Executable of the bench, built if it is not in the cache; parameters as of :class:`fusemax_hw.boards.system.System`.

    Raises
    ------
    BuildError
        If a tool is missing, or Verilator or the compiler fails.
    """
    parameters = {"divisor": divisor, "memory_bytes": memory_bytes}

    def write_rtl(directory: Path) -> dict[str, Any]:
        from fusemax_hw.boards.system import System
        from fusemax_hw.emit import write_modules

        system = System(config, **parameters)
        return write_modules(system, system.module_name, config, directory)

    return build_cpp_testbench(
        "board", config, parameters, write_rtl, sorted(BENCH.iterdir()), "--top-module", "fusemax_system"
    )

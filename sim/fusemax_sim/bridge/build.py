"""Simulator of bridge and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fusemax.spec import Config

from ..build import WRAPPER
from ..cpp_testbench import build_cpp_testbench

__all__ = ["MODULE", "build_bridge"]

BENCH = Path(__file__).parent / "verilog"
#: Parts of the machine's bench that serve here as well.
SHARED = ("axi_memory.sv", "stall_source.sv", "storage.cpp")
MODULE = "fusemax_bridge"
SIZES = {"payload_bytes": 512, "receive_bytes": 4096, "send_bytes": 4096}


def build_bridge(config: Config, *, divisor: int, memory_bytes: int, **sizes: int) -> Path:
    """Executable of the bench, built if it is not in the cache; parameters as of :class:`fusemax_hw.bridge.bridge.Bridge`.

    Raises
    ------
    BuildError
        If a tool is missing, or Verilator or the compiler fails.
    """
    parameters = {"divisor": divisor, "memory_bytes": memory_bytes, **SIZES, **sizes}

    def write_rtl(directory: Path) -> dict[str, Any]:
        from fusemax_hw.bridge.bridge import Bridge
        from fusemax_hw.emit import write_modules

        return write_modules(Bridge(config, **parameters), MODULE, config, directory)

    return build_cpp_testbench(
        "bridge",
        config,
        parameters,
        write_rtl,
        [*sorted(BENCH.iterdir()), *(WRAPPER / name for name in SHARED)],
        *("--top-module", "bridge_top", f"-GADDRESS_BITS={config.address_bits}", f"-GBUS_BITS={config.bus_bits}"),
    )

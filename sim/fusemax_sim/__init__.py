"""Simulated device: the RTL under Verilator, with a memory, served to the host by a cocotb bench.

The simulator is built by :func:`fusemax_sim.build.build`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import (
        BuildError,
        ProtocolViolation,
        RegisterError,
        SimulationError,
        SimulationTimeout,
        SimulatorDied,
        WorkerLost,
    )
    from .memory import Failure, Memory
    from .rtl_transport import RtlTransport

__all__ = [
    "BuildError",
    "Failure",
    "Memory",
    "ProtocolViolation",
    "RegisterError",
    "RtlTransport",
    "SimulationError",
    "SimulationTimeout",
    "SimulatorDied",
    "WorkerLost",
]


def __getattr__(name: str) -> Any:
    # Loaded on demand: the bench imports this package inside the simulator, and should start without NumPy.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = {"Failure": ".memory", "Memory": ".memory", "RtlTransport": ".rtl_transport"}.get(name, ".errors")
    return getattr(importlib.import_module(module, __name__), name)

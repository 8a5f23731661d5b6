"""Simulated device: the RTL under Verilator, with a memory, served to the host by a cocotb bench."""

from __future__ import annotations

from .build import build, cache_directory
from .errors import BuildError, ProtocolViolation, RegisterError, SimulationError, SimulationTimeout, SimulatorDied
from .memory import Memory
from .transport import RtlTransport

__all__ = [
    "BuildError",
    "Memory",
    "ProtocolViolation",
    "RegisterError",
    "RtlTransport",
    "SimulationError",
    "SimulationTimeout",
    "SimulatorDied",
    "build",
    "cache_directory",
]

"""What goes wrong in a simulation."""

from __future__ import annotations

from fusemax.errors import FusemaxError

__all__ = [
    "BuildError",
    "ProtocolViolation",
    "RegisterError",
    "SimulationError",
    "SimulationTimeout",
    "SimulatorDied",
    "WorkerLost",
]


class SimulationError(FusemaxError):
    """Base of this package's exceptions."""


class BuildError(SimulationError):
    """A tool is missing, or the simulator could not be compiled; the message names the package or shows the log's end."""


class SimulatorDied(SimulationError):
    """The simulator's process has ended; the message shows its log's end."""


class SimulationTimeout(SimulationError, TimeoutError):
    """The interrupt did not come in time; the device can still be used."""


class ProtocolViolation(SimulationError):
    """The device broke a rule of AXI; the message names the rule and the cycle."""


class RegisterError(SimulationError):
    """The device answered a register access with SLVERR or DECERR."""


class WorkerLost(SimulationError):
    """Workers of a pool were lost, and what they were at could not be done by others; the pool can still be used."""

"""Exceptions of the package. Wrong arguments raise ``TypeError`` and ``ValueError`` as everywhere."""

from __future__ import annotations

from .spec import Cause

__all__ = [
    "DeviceClosedError",
    "DeviceError",
    "DeviceFaultError",
    "DeviceMemoryError",
    "DeviceTimeoutError",
    "FusemaxError",
    "MissingExtraError",
    "NonFiniteError",
    "ProgramError",
    "RuleError",
    "ScheduleError",
    "ScoreOverflowError",
]


class FusemaxError(Exception):
    """Base class of everything that the package raises by a name of its own."""


class ScheduleError(FusemaxError):
    """No schedule exists."""


class RuleError(ScheduleError):
    """A program breaks a rule of the machine.

    Members
    -------
    rule : str
        Name of the rule, as in :mod:`fusemax.schedule.checker`.
    slot : int
        Microword that breaks it.
    """

    def __init__(self, rule: str, slot: int, message: str) -> None:
        super().__init__(f"{rule}, slot {slot}: {message}")
        self.rule = rule
        self.slot = slot


class ProgramError(FusemaxError, ValueError):
    """Bytes or text that are not a program."""


class MissingExtraError(FusemaxError, ImportError):
    """A part of the package that is installed separately is not there."""


class DeviceError(FusemaxError):
    """Base class of what a device can answer."""


class DeviceClosedError(DeviceError):
    """The device was closed before."""


class DeviceMemoryError(DeviceError):
    """A job does not fit the device's memory."""


class DeviceTimeoutError(DeviceError, TimeoutError):
    """A call was not done in time. The machine goes on with its jobs; the next call waits for it first."""


class DeviceFaultError(DeviceError):
    """The machine stopped; it has been reset.

    Members
    -------
    cause : Cause
        Register ERROR_CAUSE.
    address : int
        Register ERROR_ADDRESS.
    """

    def __init__(self, cause: Cause, address: int) -> None:
        meaning = {
            Cause.NONE: "no cause was given",
            Cause.READ: "a read was answered with an error",
            Cause.WRITE: "a write was answered with an error",
            Cause.DESCRIPTOR: "a job descriptor is wrong",
        }[cause]
        super().__init__(f"the machine stopped: {meaning}, address {address:#x}")
        self.cause = cause
        self.address = address


class NonFiniteError(DeviceError, ValueError):
    """Queries, keys or values hold an infinity or a NaN, or a number that is one in bfloat16."""


class ScoreOverflowError(DeviceError, OverflowError):
    """A score or a scaled query left its range, so the result would be wrong."""

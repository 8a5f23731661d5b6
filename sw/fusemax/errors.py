"""Exceptions of the package. Wrong arguments raise ``TypeError`` and ``ValueError`` as everywhere."""

from __future__ import annotations

import copy
from typing import ClassVar

from .spec import Cause

__all__ = [
    "AbortFaultError",
    "DescriptorFaultError",
    "DeviceClosedError",
    "DeviceDrainError",
    "DeviceError",
    "DeviceFaultError",
    "DeviceMemoryError",
    "DeviceTimeoutError",
    "ForkedDeviceError",
    "FusemaxError",
    "MismatchError",
    "MissingExtraError",
    "MissingOptionError",
    "NonFiniteError",
    "ProgramError",
    "ProgramFaultError",
    "ReadFaultError",
    "ReentrantCallError",
    "RingFaultError",
    "RuleError",
    "ScheduleError",
    "ScoreOverflowError",
    "WatchdogFaultError",
    "WindowFaultError",
    "WriteFaultError",
    "fresh",
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
        Name of the rule, as in :mod:`fusemax.compiler.symbolic_checker`.
    slot : int
        Microword that breaks it.
    """

    def __init__(self, rule: str, slot: int, message: str) -> None:
        super().__init__(f"{rule}, slot {slot}: {message}")
        self.rule = rule
        self.slot = slot


class ProgramError(FusemaxError, ValueError):
    """Bytes or text that are not a program."""


class MissingOptionError(FusemaxError, ValueError):
    """A program needs an operation that the machine was made without.

    Members
    -------
    option : str
        The field of :class:`fusemax.spec.Config` that the machine needs.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class MissingExtraError(FusemaxError, ImportError):
    """A part of the package that is installed separately is not there."""


class DeviceError(FusemaxError):
    """Base class of what a device can answer."""


class DeviceClosedError(DeviceError):
    """The device was closed before."""


class ForkedDeviceError(DeviceError):
    """The device was opened in another process, of which this one is a fork: only that one can use it."""

    def __init__(self, owner: int) -> None:
        super().__init__(f"the device must be used in the process that opened it, {owner}; open another one after a fork")


class ReentrantCallError(DeviceError, RuntimeError):
    """A call of the device was interrupted, and what interrupted it called the device."""

    def __init__(self) -> None:
        super().__init__(
            "the device must not be called inside a call of it: from a progress function, a signal handler or a finaliser; "
            "only abort() and counters may be"
        )


class MismatchError(DeviceError):
    """The device is not the machine that was asked for: another identity, version or configuration."""


class DeviceMemoryError(DeviceError):
    """A job does not fit the device's memory."""


class DeviceTimeoutError(DeviceError, TimeoutError):
    """A call was not done in time. The machine goes on with its jobs; the next call waits for it first."""


class DeviceDrainError(DeviceError):
    """The machine was reset, but its memory still owes answers: it takes no job until they have come, or a hard reset."""


class DeviceFaultError(DeviceError):
    """The machine stopped; it has been reset. Each cause has its own class.

    Members
    -------
    cause : Cause
        Register ERROR_CAUSE.
    address : int
        Register ERROR_ADDRESS.
    job : int
        Number of the job, from 0 since the machine was started: register ERROR_JOB.
    """

    cause: ClassVar[Cause] = Cause.NONE
    meaning: ClassVar[str] = "no cause was given"

    def __init__(self, address: int, job: int) -> None:
        super().__init__(f"the machine stopped at job {job}: {self.meaning}, address {address:#x}")
        self.address = address
        self.job = job

    def __reduce__(self) -> tuple[type[DeviceFaultError], tuple[int, int]]:
        return type(self), (self.address, self.job)

    @staticmethod
    def of(cause: Cause, address: int, job: int) -> DeviceFaultError:
        """The error of that cause."""
        return next((kind for kind in FAULTS if kind.cause is cause), DeviceFaultError)(address, job)


class ReadFaultError(DeviceFaultError):
    """A read was answered with SLVERR or DECERR."""

    cause = Cause.READ
    meaning = "a read was answered with an error"


class WriteFaultError(DeviceFaultError):
    """A write was answered with SLVERR or DECERR."""

    cause = Cause.WRITE
    meaning = "a write was answered with an error"


class DescriptorFaultError(DeviceFaultError):
    """A job descriptor is wrong. The jobs before it are complete."""

    cause = Cause.DESCRIPTOR
    meaning = "a job descriptor is wrong"


class ProgramFaultError(DeviceFaultError):
    """A program is not the one that its job names. The jobs before it are complete."""

    cause = Cause.PROGRAM
    meaning = "a program's header is wrong"


class WindowFaultError(DeviceFaultError):
    """A job would have read or written outside what it may; it has not."""

    cause = Cause.WINDOW
    meaning = "a burst would have left its window"


class WatchdogFaultError(DeviceFaultError):
    """Nothing happened for too long: the memory does not answer, or a job waits for what never comes."""

    cause = Cause.TIMEOUT
    meaning = "there was no progress"


class AbortFaultError(DeviceFaultError):
    """The machine was told to stop."""

    cause = Cause.ABORT
    meaning = "it was aborted"


class RingFaultError(DeviceFaultError):
    """More jobs were announced than the ring holds."""

    cause = Cause.RING
    meaning = "the ring has too many jobs"


FAULTS = (
    ReadFaultError,
    WriteFaultError,
    DescriptorFaultError,
    ProgramFaultError,
    WindowFaultError,
    WatchdogFaultError,
    AbortFaultError,
    RingFaultError,
)


class NonFiniteError(DeviceError, ValueError):
    """Queries, keys or values hold an infinity or a NaN, or a number that is one in bfloat16."""


class ScoreOverflowError(DeviceError, OverflowError):
    """A score or a scaled query left its range, so the result would be wrong."""


def fresh(error: DeviceError) -> DeviceError:
    """Copy an error that is kept, to be raised.

    An error that was raised has a traceback, whose frames hold everything that was there: kept with a call, it would keep the
    call alive, and whoever waited for it.
    """
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied

"""Devices: what the host needs of one, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from numpy.typing import ArrayLike

from ..compiler.program import Program
from ..errors import DeviceClosedError, MismatchError
from ..spec import COUNTERS, IDENTITY, INTERFACE_VERSION, Config, config_named, counter_offset, register
from .device_numbers import give_number
from .driver import Driver
from .operands import as_operands
from .options import SubmitOptions, check_names
from .request import Request
from .submission import Submission
from .transport import Transport

if TYPE_CHECKING:
    pass

__all__ = ["Counters", "Device", "check_machine"]

#: Device memory if nothing else is asked for.
MEMORY_BYTES = 64 << 20


@dataclass(frozen=True)
class Counters:
    """Counters of the machine; every name of :data:`fusemax.spec.COUNTERS` is an attribute."""

    values: dict[str, int] = field(default_factory=lambda: dict.fromkeys((name for name, _ in COUNTERS), 0))

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> int: ...

    else:

        def __getattr__(self, name: str) -> int:
            if name == "values" or name not in self.values:
                raise AttributeError(f"there is no counter {name!r}")
            return self.values[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.values]

    @property
    def utilisation(self) -> float:
        """Share of the cycles in which the array multiplied for QK or SLNV; 0 if nothing ran.

        (E + F) / (E + F + 2) is the ceiling of the attention cascade. Tiles that are not full count like full ones.
        """
        return (self.slots_qk + self.slots_slnv) / self.cycles if self.cycles else 0.0


class Device:
    """An open device. A context manager: leaving it closes the transport.

    Parameters
    ----------
    transport
        The way to the device; it is closed with the device.
    config
        Configuration that the device must have.

    Members
    -------
    number
        Of the device in this process, from 1 on.

    Raises
    ------
    MismatchError
        If identity, version or shape of the machine are not those of ``config``.
    """

    def __init__(self, transport: Transport, config: str | Config) -> None:
        self.config = config_named(config)
        self.transport = transport
        self.number = give_number(self)
        self._closed = False
        try:
            check_machine(transport.read_register, self.config)
            self._driver = Driver(transport, self.config)
        except BaseException:
            self.close()
            raise

    @property
    def driver(self) -> Driver:
        """The driver of the open device.

        Raises
        ------
        DeviceClosedError
            If the device was closed.
        """
        if self._closed:
            raise DeviceClosedError("the device must be open, but was closed")
        return self._driver

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def counters(self) -> Counters:
        """The machine's counters: of the latest call of :func:`fusemax.attention`."""
        _ = self.driver
        values = {}
        for name, _ in COUNTERS:
            offset = counter_offset(name)
            values[name] = self.transport.read_register(offset) | self.transport.read_register(offset + 4) << 32
        return Counters(values)

    def submit(
        self,
        q: ArrayLike,
        k: ArrayLike,
        v: ArrayLike,
        *,
        program: Program | None = None,
        **options: Unpack[SubmitOptions],
    ) -> Submission:
        """Queue a call behind those that are queued, and go on; any thread may, and may wait for the result.

        Jobs of several calls follow each other in the machine without a pause. If the machine stops, or sees a score out of
        range, the calls that may be the reason are run again alone, so that each one gets its own error.

        Parameters
        ----------
        q, k, v, options
            As :func:`fusemax.attention`'s, but for ``device``, ``timeout`` and ``progress``. The arrays are copied at once.
        program
            As :func:`fusemax.attention`'s.

        Raises
        ------
        TypeError, ValueError, NonFiniteError, DeviceClosedError, DeviceMemoryError
            As :func:`fusemax.attention`; nothing has been queued then.
        """
        for name in ("timeout", "progress"):
            if name in options:
                raise TypeError(f"{name} must be given to the submission's result(), not to submit()")
        check_names("submit", options, SubmitOptions)
        q, k, v = as_operands(q, k, v)
        request = Request.of(q, k, v, {**options}, program)
        driver = self.driver
        call = request.call(self.config)
        return Submission(driver, self.config, request, driver.submit(*request.operands(q, k, v), call))

    def abort(self) -> None:
        """Stop the machine now. Calls that are not complete fail with :class:`fusemax.errors.AbortFaultError`."""
        self.driver.queue.abort()

    def close(self) -> None:
        """Close the transport. Again is harmless."""
        if not self._closed:
            self._closed = True
            self.transport.close()

    def __enter__(self) -> Self:
        _ = self.driver
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{state} {type(self.transport).__name__} device, config {self.config.name!r}>"


def check_machine(read: Callable[[int], int], config: Config) -> None:
    """Compare identity, version and configuration of a machine, whose registers ``read`` reads.

    Raises
    ------
    MismatchError
        If one is not that of ``config``.
    """
    for name, expected in (("IDENTITY", IDENTITY), ("VERSION", INTERFACE_VERSION)):
        value = read(register(name).offset)
        if value != expected:
            raise MismatchError(f"the device's {name} must be {expected:#x}, not {value:#x}")
    for name in ("SHAPE", "LIMITS", "OPTIONS"):
        entry = register(name)
        assert entry.fields is not None
        for key, value in entry.fields.unpack(read(entry.offset)).items():
            if value != getattr(config, key):
                raise MismatchError(f"the device's {key} must be {getattr(config, key):d} as in {config.name!r}, not {value}")

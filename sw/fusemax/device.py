"""Devices: what the host needs of one, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from os import PathLike, fspath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from .driver import Driver
from .errors import DeviceClosedError, MismatchError, MissingExtraError
from .request import Options, Request
from .spec import COUNTERS, IDENTITY, INTERFACE_VERSION, Config, config_named, counter_offset, register
from .submission import Submission
from .transport import Transport

if TYPE_CHECKING:
    from fusemax_sim.memory import Memory

__all__ = ["Counters", "Device", "check_machine", "open_device"]

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

    Raises
    ------
    MismatchError
        If identity, version or shape of the machine are not those of ``config``.
    """

    def __init__(self, transport: Transport, config: str | Config) -> None:
        self.config = config_named(config)
        self.transport = transport
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

    def submit(self, q: NDArray[Any], k: NDArray[Any], v: NDArray[Any], **options: Any) -> Submission:
        """Queue a call behind those that are queued, and go on; any thread may, and may wait for the result.

        Jobs of several calls follow each other in the machine without a pause. If the machine stops, or sees a score out of
        range, the calls that may be the reason are run again alone, so that each one gets its own error.

        Parameters
        ----------
        q, k, v, options
            As :func:`fusemax.attention`'s, but for ``device``, ``program``, ``timeout`` and ``progress``. The arrays are copied
            at once.

        Raises
        ------
        TypeError, ValueError, NonFiniteError, DeviceClosedError, DeviceMemoryError
            As :func:`fusemax.attention`; nothing has been queued then.
        """
        for name in ("timeout", "progress"):
            if name in options:
                raise TypeError(f"{name} must be given to the submission's result(), not to submit()")
        for name in options:
            if name not in Options.__dataclass_fields__:
                raise TypeError(f"submit() got an unexpected keyword argument {name!r}")
        request = Request.of(q, k, v, Options(**options))
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
    for name in ("SHAPE", "LIMITS"):
        entry = register(name)
        assert entry.fields is not None
        for key, value in entry.fields.unpack(read(entry.offset)).items():
            if value != getattr(config, key):
                raise MismatchError(f"the device's {key} must be {getattr(config, key)} as in {config.name!r}, not {value}")


def open_device(
    kind: str = "model",
    config: str | Config = "small",
    *,
    memory: Memory | None = None,
    trace: str | PathLike[str] | None = None,
    memory_bytes: int | None = None,
    port: str | None = None,
    baud: int | None = None,
    latency_s: float | None = None,
    transfer_progress: Callable[[int, int], None] | None = None,
) -> Device:
    """Open a device.

    Parameters
    ----------
    kind
        ``model`` for the bit-exact model in this process, ``rtl`` for the emitted Verilog in a simulator
        (``pip install 'fusemax[sim]'``), ``board`` for an FPGA board at a serial port (``pip install 'fusemax[board]'``).
    config
        A configuration or the name of a shipped one; of a board, the one that its bitstream was made for.
    memory
        A :class:`fusemax.Memory`: width, latency and stalls of the simulated memory; ``rtl`` only.
    trace
        File to write the waveform to; ``rtl`` only.
    memory_bytes
        Size of the device memory; 64 MiB if not given, or all that a board has.
    port
        Serial port; ``board`` only, which needs it.
    baud, latency_s
        Bits per second of the line, 3 000 000 if not given, and the longest time that bytes spend on the way beside that on the
        line, 0.05 s; ``board`` only. Time-outs follow from both.
    transfer_progress
        Called during transfers to and from the board's memory with the bytes done and all; ``board`` only.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above.
    MissingExtraError
        If the simulator, or pyserial, is not installed.
    PortError, BoardTimeoutError, BitstreamError
        If the board's port is absent, nothing answers there, or another machine does (:mod:`fusemax.board`).
    """
    machine = config_named(config)
    if kind not in ("model", "rtl", "board"):
        raise ValueError(f"kind must be 'model', 'rtl' or 'board', not {kind!r}")
    if memory_bytes is not None:
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        if not 1 << 13 <= memory_bytes <= 1 << machine.address_bits or memory_bytes % machine.bus_bytes:
            rule = f"a multiple of {machine.bus_bytes} from 8192 to 2^{machine.address_bits}"
            raise ValueError(f"memory_bytes must be {rule}, not {memory_bytes}")
    simulated = {"memory": memory, "trace": trace}
    serial = {"port": port, "baud": baud, "latency_s": latency_s, "transfer_progress": transfer_progress}
    refused, what = {
        "model": (simulated | serial, "the model, which has no signals"),
        "rtl": (serial, "the simulation, which has no serial line"),
        "board": (simulated, "a board, which is not simulated"),
    }[kind]
    for name, value in refused.items():
        if value is not None:
            raise ValueError(f"{name} must be None for {what}, not {value!r}")
    if kind == "board":
        from .board.opening import open_board

        if port is None:
            raise TypeError("port must be the name of a serial port, not None")
        given = {name: value for name, value in serial.items() if value is not None}
        return open_board(machine, memory_bytes=memory_bytes, **given)
    memory_bytes = MEMORY_BYTES if memory_bytes is None else memory_bytes
    if kind == "rtl":
        return Device(_rtl_transport(machine, memory, trace, memory_bytes), machine)
    from .model.transport import ModelTransport

    return Device(ModelTransport(machine, memory_bytes), machine)


def simulated_memory() -> type[Memory]:
    """The class :class:`fusemax.Memory`.

    Raises
    ------
    MissingExtraError
        If the simulator is not installed.
    """
    try:
        from fusemax_sim.memory import Memory
    except ImportError as error:
        raise MissingExtraError(f"the simulated memory needs the simulator: pip install 'fusemax[sim]' ({error})") from error
    return Memory


def _rtl_transport(config: Config, memory: Memory | None, trace: str | PathLike[str] | None, memory_bytes: int) -> Transport:
    if memory is not None and not isinstance(memory, simulated_memory()):
        raise TypeError(f"memory must be a fusemax.Memory or None, not {memory!r}")
    try:
        from fusemax_sim.transport import RtlTransport
    except ImportError as error:
        raise MissingExtraError(f"the rtl device needs the simulator: pip install 'fusemax[sim]' ({error})") from error
    return RtlTransport(config, memory=memory, trace=None if trace is None else fspath(trace), memory_bytes=memory_bytes)

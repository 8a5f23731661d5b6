"""Opening a board: port, bridge, and the machine behind it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..bridge import BridgeTransport, Link, LinkTimeoutError, Target
from ..bridge.frame import State
from ..errors import MismatchError
from ..runtime.device import Device, check_machine
from ..spec import Config, config_named, register
from .port import BAUD, Port

__all__ = ["LATENCY_S", "BitstreamError", "BoardTimeoutError", "Machine", "check_bitstream", "connect", "look", "open_board"]

#: Seconds that bytes may spend on the way beside those on the line: drivers collect them for up to 16 ms.
LATENCY_S = 0.05


class BitstreamError(MismatchError):
    """The board's FPGA does not hold the machine that was asked for."""


class BoardTimeoutError(LinkTimeoutError):
    """Nothing that speaks the bridge's language answers at the port."""


@dataclass(frozen=True)
class Machine:
    """What a board says of itself.

    Members
    -------
    state
        Of the bridge.
    identity, version
        Registers.
    shape, limits
        Fields of the registers SHAPE and LIMITS.
    """

    state: State
    identity: int
    version: int
    shape: dict[str, int]
    limits: dict[str, int]


def connect(port: str, baud: int = BAUD, latency_s: float = LATENCY_S) -> tuple[Port, Target]:
    """Open a port and find the bridge behind it. Whoever calls closes the port.

    Raises
    ------
    PortError
        If the port cannot be opened.
    BoardTimeoutError
        If no bridge answers.
    """
    line = Port(port, baud)
    try:
        link = Link(line, baud=baud, latency_s=latency_s)
        link.connect()
    except LinkTimeoutError as error:
        line.close()
        raise BoardTimeoutError(
            f"a bridge must answer at {port} with {baud} baud, but none does; load a bitstream (fusemax board load), or say "
            f"the baud rate that it was made for ({error})"
        ) from error
    except BaseException:
        line.close()
        raise
    return line, Target(link)


def look(target: Target) -> Machine:
    """Identity and configuration of the machine behind a bridge."""
    entries = [register(name) for name in ("IDENTITY", "VERSION", "SHAPE", "LIMITS")]
    identity, version, shape, limits = (target.read_registers(entry.offset)[0] for entry in entries)
    layouts = [entry.fields for entry in entries[2:]]
    assert layouts[0] is not None and layouts[1] is not None
    return Machine(target.link.state, identity, version, layouts[0].unpack(shape), layouts[1].unpack(limits))


def check_bitstream(target: Target, config: Config) -> None:
    """Compare the machine behind a bridge with a configuration.

    Raises
    ------
    BitstreamError
        If it is another one.
    """
    try:
        check_machine(lambda offset: target.read_registers(offset)[0], config)
    except MismatchError as error:
        raise BitstreamError(
            f"{error}; load the bitstream of {config.name!r} (fusemax board load), or open the board as what it is "
            "(fusemax board info)"
        ) from error


def open_board(
    config: str | Config,
    port: str,
    *,
    baud: int = BAUD,
    latency_s: float = LATENCY_S,
    memory_bytes: int | None = None,
    transfer_progress: Callable[[int, int], None] | None = None,
) -> Device:
    """Open the machine in a board's FPGA.

    Parameters
    ----------
    config
        Configuration that the bitstream was made for, or the name of one.
    port
        Serial port.
    baud
        Bits per second that it was made for; time-outs follow from it.
    latency_s
        Seconds that bytes may spend on the way beside those on the line.
    memory_bytes
        Memory that is used; all that there is if not given.
    transfer_progress
        Called during transfers with the bytes done and all.

    Raises
    ------
    PortError
        If the port cannot be opened.
    BoardTimeoutError
        If nothing answers there.
    BitstreamError
        If identity or configuration are not those of ``config``.
    LinkError, ValueError
        As :class:`~fusemax.bridge.BridgeTransport`.
    """
    config = config_named(config)
    line, target = connect(port, baud, latency_s)
    try:
        # Whoever was here before may have left it at something that never ends.
        target.reset()
        check_bitstream(target, config)
        return Device(BridgeTransport(target, memory_bytes, progress=transfer_progress, close=line.close), config)
    except BaseException:
        line.close()
        raise

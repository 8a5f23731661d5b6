"""A serial port as the byte stream of a link; needs pyserial."""

from __future__ import annotations

from typing import Any

from ..errors import DeviceError, MissingExtraError

__all__ = ["BAUD", "Port", "PortError", "find_ports"]

#: Bits per second if nothing else is asked for.
BAUD = 3_000_000


class PortError(DeviceError, OSError):
    """The serial port is not there, is used by somebody else, or has gone."""


def pyserial() -> Any:
    """The package ``serial``.

    Raises
    ------
    MissingExtraError
        If it is not installed.
    """
    try:
        import serial
        import serial.tools.list_ports
    except ImportError as error:
        raise MissingExtraError(f"a board needs pyserial: pip install 'fusemax[board]' ({error})") from error
    return serial


def find_ports() -> list[tuple[str, str]]:
    """Serial ports of this computer, and what they say of themselves."""
    return sorted((port.device, port.description or "") for port in pyserial().tools.list_ports.comports())


class Port:
    """An open serial port: 8 data bits, no parity, one stop bit, no handshake (:class:`fusemax.bridge.line.ByteStream`).

    Parameters
    ----------
    name
        As the system calls it: ``/dev/ttyUSB0``.
    baud
        Bits per second.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one.
    PortError
        Here, or from every method: the port cannot be used.
    MissingExtraError
        If pyserial is not installed.
    """

    def __init__(self, name: str, baud: int = BAUD) -> None:
        if not isinstance(name, str):
            raise TypeError(f"port must be the name of a serial port, not {name!r}")
        if not isinstance(baud, int) or isinstance(baud, bool):
            raise TypeError(f"baud must be an integer, not {baud!r}")
        if baud <= 0:
            raise ValueError(f"baud must be positive, not {baud!r}")
        if baud >= 1 << 31:
            raise ValueError(f"baud must be below 2^31, not {baud!r}")
        serial = pyserial()
        self.name = name
        self.timeout: float | None = 0.0
        try:
            # What a program before us has asked for and not read is dropped.
            self._serial = serial.Serial(name, baud, timeout=0.0, exclusive=True)
        except ValueError as error:
            raise ValueError(f"baud must be a rate that {name} has, not {baud!r} ({error})") from error
        except OSError as error:
            raise PortError(self._absent(error)) from error

    def _absent(self, error: OSError) -> str:
        others = ", ".join(device for device, _ in find_ports()) or "none"
        reason = error.strerror or str(error)
        return (
            f"port {self.name!r} must be a serial port that can be opened ({reason}); ports of this computer: {others}. "
            "Connect the board, close other programs that use the port, and see that you may use it (group dialout)"
        )

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""
        try:
            return self._serial.in_waiting
        except OSError as error:
            raise self._gone(error) from error

    def read(self, size: int = 1, /) -> bytes:
        """Up to ``size`` bytes; waits :attr:`timeout` seconds for the first one."""
        try:
            if self._serial.timeout != self.timeout:
                self._serial.timeout = self.timeout
            return self._serial.read(size)
        except OSError as error:
            raise self._gone(error) from error

    def write(self, text: bytes, /) -> int | None:
        """Send all of ``text``."""
        try:
            return self._serial.write(text)
        except OSError as error:
            raise self._gone(error) from error

    def close(self) -> None:
        """Close the port. Again is harmless."""
        self._serial.close()

    def _gone(self, error: OSError) -> PortError:
        return PortError(f"port {self.name!r} must stay connected, but has failed: {error}; see to the cable and open again")

"""Serial ports, on pseudo-terminals."""

from __future__ import annotations

import os
import sys
import time
import tty
from collections.abc import Iterator

import pytest

from fusemax.board.port import Port, PortError, find_ports
from fusemax.errors import DeviceError, MissingExtraError


@pytest.fixture
def terminal() -> Iterator[tuple[int, str]]:
    """The other side of a serial port, and the port's name."""
    master, slave = os.openpty()
    tty.setraw(slave)
    yield master, os.ttyname(slave)
    for file in (master, slave):
        try:
            os.close(file)
        except OSError:
            continue


def test_bytes_go_both_ways(terminal: tuple[int, str]) -> None:
    master, name = terminal
    port = Port(name, 115200)
    assert port.write(b"\0\x11\x13\xff\r\n") == 6
    assert os.read(master, 10) == b"\0\x11\x13\xff\r\n"
    os.write(master, b"\r\n\x03\x1a\xff")
    port.timeout = 1.0
    assert port.read(2) == b"\r\n"
    assert port.in_waiting == 3
    assert port.read(3) == b"\x03\x1a\xff"
    port.timeout = 0.05
    begin = time.monotonic()
    assert port.read(1) == b""
    assert 0.04 <= time.monotonic() - begin < 1
    port.close()
    port.close()


def test_what_was_there_before_is_dropped(terminal: tuple[int, str]) -> None:
    master, name = terminal
    os.write(master, b"old")
    port = Port(name, 115200)
    port.timeout = 0.05
    assert port.read(3) == b""
    port.close()


def test_a_port_that_is_absent() -> None:
    with pytest.raises(
        PortError, match=r"port '/dev/absent' must be a serial port .* ports of this computer: .*Connect the board"
    ) as failure:
        Port("/dev/absent")
    assert isinstance(failure.value, DeviceError) and isinstance(failure.value, OSError)


def test_a_port_that_is_taken(terminal: tuple[int, str]) -> None:
    first = Port(terminal[1], 115200)
    with pytest.raises(PortError, match="close other programs that use the port"):
        Port(terminal[1], 115200)
    first.close()
    Port(terminal[1], 115200).close()


def test_a_port_that_goes(terminal: tuple[int, str]) -> None:
    master, name = terminal
    port = Port(name, 115200)
    os.close(master)
    with pytest.raises(PortError, match="must stay connected, but has failed"):
        for _ in range(2):
            port.write(b"x")
            port.timeout = 0.1
            port.read(1)
    port.close()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3,), TypeError, "port must be the name of a serial port, not 3"),
        (("/dev/null", 9600.0), TypeError, "baud must be an integer, not 9600.0"),
        (("/dev/null", 0), ValueError, "baud must be positive, not 0"),
        (("/dev/null", 9600), PortError, "port '/dev/null' must be a serial port"),
    ],
)
def test_wrong_arguments(arguments: tuple, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Port(*arguments)


def test_without_pyserial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    for use in (find_ports, lambda: Port("/dev/ttyUSB0")):
        with pytest.raises(MissingExtraError, match=r"pip install 'fusemax\[board\]'"):
            use()


def test_ports_are_listed() -> None:
    assert all(isinstance(name, str) and isinstance(text, str) for name, text in find_ports())

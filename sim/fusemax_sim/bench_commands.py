"""Messages between the host process and the bench inside the simulator: fixed-size records over a stream socket."""

from __future__ import annotations

import enum
import socket
import struct
from dataclasses import astuple, dataclass
from typing import Self

__all__ = ["VIOLATION_BYTES", "Command", "Reply", "Request", "receive"]

#: Longest text of a protocol violation, as in sim_top.sv.
VIOLATION_BYTES = 80


class Command(enum.IntEnum):
    """What the bench is asked to do; the first four are also sim_top.sv's codes."""

    #: Run ``cycles`` cycles.
    RUN = 0
    #: Run until the interrupt is high, at most ``cycles`` cycles.
    WAIT = 1
    #: Read the register at ``address``.
    READ = 2
    #: Write ``data`` to the register at ``address``.
    WRITE = 3
    #: End the simulation; there is no reply.
    STOP = 4
    #: From now on the memory fails in way ``address`` after ``data`` things have gone well, with response ``cycles`` if it
    #: answers; no time passes.
    FAIL = 5


@dataclass(frozen=True)
class Request:
    """One command."""

    command: int
    address: int = 0
    data: int = 0
    cycles: int = 0

    FORMAT = struct.Struct("<BxxxIIxxxxQ")

    def to_bytes(self) -> bytes:
        return self.FORMAT.pack(*astuple(self))

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        return cls(*cls.FORMAT.unpack(text))


@dataclass(frozen=True)
class Reply:
    """State after a command.

    Members
    -------
    result, response
        Data and response code of a register access.
    interrupt
        The interrupt pin.
    cycle
        Cycles since reset.
    job_cycles
        Cycles from the last doorbell that found no other under way to the interrupt, or up to now.
    violation
        First violated rule of AXI, or nothing.
    """

    result: int
    response: int
    interrupt: bool
    cycle: int
    job_cycles: int
    violation: bytes

    FORMAT = struct.Struct(f"<IBBxxQQ{VIOLATION_BYTES}s")

    def to_bytes(self) -> bytes:
        return self.FORMAT.pack(*astuple(self))

    @classmethod
    def from_bytes(cls, text: bytes) -> Self:
        result, response, interrupt, cycle, job_cycles, violation = cls.FORMAT.unpack(text)
        return cls(result, response, bool(interrupt), cycle, job_cycles, violation.rstrip(b"\0"))


def receive(stream: socket.socket, size: int) -> bytes:
    """The next ``size`` bytes, or nothing if the other side has closed."""
    text = b""
    while len(text) < size:
        piece = stream.recv(size - len(text))
        if not piece:
            return b""
        text += piece
    return text

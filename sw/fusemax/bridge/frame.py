"""Frames of the host bridge as bytes (docs/reference/bridge.md; what they hold is defined in :mod:`fusemax.spec.bridge`)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from ..errors import FusemaxError
from ..spec.bridge import (
    ANSWER,
    ANSWER_FLAG,
    CRC_BYTES,
    GROUP_BYTES,
    HEADER,
    LENGTH_LIMIT,
    STATE,
    STATUS_BYTES,
    Command,
    StateFlag,
    Status,
)

__all__ = [
    "Answer",
    "Deframer",
    "FrameError",
    "Request",
    "State",
    "answer_bytes",
    "cobs_decode",
    "cobs_encode",
    "decode",
    "encode",
    "parse_answer",
]

#: Longest coded frame that can be sound: a longer one is not kept while it comes in.
LONGEST_FRAME = 2 * LENGTH_LIMIT
STATE_COMMAND = Command.POLL | ANSWER_FLAG


class FrameError(FusemaxError):
    """Bytes that are not a sound frame."""


def cobs_encode(body: bytes) -> bytes:
    """``body`` in COBS: without zeros, a byte longer for every 254 begun."""
    coded = bytearray()
    for group in body.split(b"\0"):
        while len(group) >= GROUP_BYTES:
            coded.append(GROUP_BYTES + 1)
            coded += group[:GROUP_BYTES]
            group = group[GROUP_BYTES:]
        coded.append(len(group) + 1)
        coded += group
    return bytes(coded)


def cobs_decode(coded: bytes) -> bytes:
    """What :func:`cobs_encode` made ``coded`` of.

    Raises
    ------
    FrameError
        If ``coded`` is empty, holds a zero or ends within a group.
    """
    body = bytearray()
    place, size = 0, len(coded)
    if not size or 0 in coded:
        raise FrameError("a coded frame must be at least one byte long and must not hold a zero")
    while place < size:
        code = coded[place]
        if place + code > size:
            raise FrameError(f"a group must end with its frame of {size} bytes, not at {place + code}")
        body += coded[place + 1 : place + code]
        place += code
        if code <= GROUP_BYTES and place < size:
            body.append(0)
    return bytes(body)


def encode(body: bytes) -> bytes:
    """Bytes on the line: ``body`` and its CRC in COBS, and a closing zero."""
    return cobs_encode(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little")) + b"\0"


def decode(coded: bytes) -> bytes:
    """Body of the frame that ``coded`` is, without the closing zero.

    Raises
    ------
    FrameError
        If it is not sound.
    """
    body = cobs_decode(coded)
    if len(body) < CRC_BYTES or zlib.crc32(body[:-CRC_BYTES]).to_bytes(CRC_BYTES, "little") != body[-CRC_BYTES:]:
        raise FrameError(f"a frame must end with its CRC, but one of {len(body)} bytes does not")
    return body[:-CRC_BYTES]


@dataclass(frozen=True)
class Request:
    """What the bridge is asked to do; ``payload`` are a write's ``length`` bytes."""

    command: Command
    sequence: int
    length: int = 0
    address: int = 0
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """Bytes on the line."""
        return encode(HEADER.pack(self.command, self.sequence, self.length, self.address) + self.payload)

    @classmethod
    def from_body(cls, body: bytes) -> Self:
        """The request whose body this is.

        Raises
        ------
        FrameError
            If there is none.
        """
        if len(body) < HEADER.size:
            raise FrameError(f"a request must have {HEADER.size} bytes at least, not {len(body)}")
        command, sequence, length, address = HEADER.unpack_from(body)
        payload = body[HEADER.size :]
        if len(payload) != (length if command & 1 else 0) or (command & 1 and length >= LENGTH_LIMIT):
            raise FrameError(f"the request {command:#x} of length {length} must not have a payload of {len(payload)} bytes")
        return cls(command, sequence, length, address, payload)


@dataclass(frozen=True)
class Answer:
    """How the request of a number went, and what was read."""

    command: Command
    sequence: int
    status: Status
    payload: bytes = b""

    def to_bytes(self) -> bytes:
        """Bytes on the line."""
        header = ANSWER.pack(self.command | ANSWER_FLAG, self.sequence, len(self.payload))
        return encode(header + self.payload + bytes([self.status]))


@dataclass(frozen=True)
class State:
    """What the bridge says of itself, asked or not.

    Members
    -------
    sequence
        Number of the next request that it will execute.
    token
        Of the POLL that it answers; 0 if it was not asked.
    flags
        Interrupt, fresh, missing.
    version
        Version of the frames.
    payload_bytes
        Longest payload of an answer.
    receive_bytes, send_bytes
        Bytes that the bridge keeps of requests and of answers.
    bus_bytes
        Bytes of a word of memory.
    memory_bytes
        Bytes of memory within reach.
    """

    sequence: int
    token: int
    flags: StateFlag
    version: int
    payload_bytes: int
    receive_bytes: int
    send_bytes: int
    bus_bytes: int
    memory_bytes: int

    def to_bytes(self) -> bytes:
        """Bytes on the line."""
        sizes = (size.bit_length() - 1 for size in (self.payload_bytes, self.receive_bytes, self.send_bytes))
        body = STATE.pack(self.token, self.flags, self.version, *sizes, self.bus_bytes, self.memory_bytes)
        return encode(ANSWER.pack(STATE_COMMAND, self.sequence, len(body)) + body + bytes(STATUS_BYTES))


def parse_answer(body: bytes) -> Answer | State:
    """The answer or state whose body this is.

    Raises
    ------
    FrameError
        If there is none.
    """
    if len(body) < ANSWER.size + STATUS_BYTES:
        raise FrameError(f"an answer must have {ANSWER.size + STATUS_BYTES} bytes at least, not {len(body)}")
    command, sequence, length = ANSWER.unpack_from(body)
    payload = body[ANSWER.size : -STATUS_BYTES]
    if length != len(payload):
        raise FrameError(f"an answer of length {length} must have a payload of as many bytes, not of {len(payload)}")
    try:
        if command != STATE_COMMAND:
            return Answer(Command(command ^ ANSWER_FLAG), sequence, Status(body[-1]), payload)
    except ValueError as error:
        raise FrameError(str(error)) from error
    if length != STATE.size:
        raise FrameError(f"a state must have {STATE.size} bytes, not {length}")
    token, flags, version, longest, receive, send, bus_bytes, memory_bytes = STATE.unpack(payload)
    sizes = {"payload_bytes": 1 << longest, "receive_bytes": 1 << receive, "send_bytes": 1 << send}
    return State(sequence, token, StateFlag(flags), version, bus_bytes=bus_bytes, memory_bytes=memory_bytes, **sizes)


def answer_bytes(payload_bytes: int) -> int:
    """Most bytes that an answer with this payload takes on the line and in the bridge's memory."""
    body = ANSWER.size + payload_bytes + STATUS_BYTES + CRC_BYTES
    return body + body // GROUP_BYTES + 2


class Deframer:
    """Bodies of the sound frames in a stream of bytes that come in pieces of any size."""

    def __init__(self) -> None:
        self._begun = bytearray()

    def feed(self, text: bytes) -> Iterator[bytes | None]:
        """The body of each frame that ``text`` completes; None for one that is not sound."""
        *frames, rest = text.split(b"\0")
        for frame in frames:
            coded = bytes(self._begun) + frame
            self._begun.clear()
            if coded:
                try:
                    yield decode(coded)
                except FrameError:
                    yield None
        self._begun += rest
        # A frame that is too long is damaged; enough of it is kept to see that.
        del self._begun[LONGEST_FRAME:]

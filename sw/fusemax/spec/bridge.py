"""Frames between a host and the bridge: what docs/reference/bridge.md describes, hardware and host share.

A request is a header (:data:`HEADER`), for writes followed by its payload. An answer is a shorter header
(:data:`ANSWER`), its payload and a status byte. Both end with a CRC-32, are coded by COBS and closed by a zero byte.
"""

from __future__ import annotations

import enum
import struct

__all__ = [
    "ANSWER",
    "ANSWER_FLAG",
    "BRIDGE_VERSION",
    "CRC_BYTES",
    "GROUP_BYTES",
    "HEADER",
    "LENGTH_LIMIT",
    "NO_REPLAY",
    "REGISTER_BYTES",
    "SEQUENCES",
    "STATE",
    "STATUS_BYTES",
    "WINDOW",
    "Command",
    "StateFlag",
    "Status",
]

#: Version of the frames and of what they do.
BRIDGE_VERSION = 1
#: command, sequence number, length and address, in front of a request's payload; little-endian as everything here.
HEADER = struct.Struct("<BBHI")
#: command, sequence number and length, in front of an answer's payload.
ANSWER = struct.Struct("<BBH")
#: Behind an answer's payload.
STATUS_BYTES = 1
#: CRC-32/ISO-HDLC of everything before it, low byte first.
CRC_BYTES = 4
#: Data bytes of the longest COBS group.
GROUP_BYTES = 254
#: Sequence numbers count modulo this.
SEQUENCES = 256
#: Requests whose answers may be missing at a time; the bridge keeps as many answers for repetition.
WINDOW = 15
#: A request's length is below this.
LENGTH_LIMIT = 4096
#: Bytes of the register space.
REGISTER_BYTES = 4096
#: ``address`` of a POLL that wants no answers again.
NO_REPLAY = 0x100
#: Set in the command of an answer.
ANSWER_FLAG = 0x80
#: Payload of the answer to POLL: token, flags, version, log2 of the longest payload and of the bridge's buffers for
#: requests and answers, bytes of a bus word, memory bytes.
STATE = struct.Struct("<BBBBBBBxI")


class Command(enum.IntEnum):
    """What a request asks for. Bit 0: carries data; 1: writes zeros; 4: memory; 5: registers; 6: not numbered."""

    #: ``length`` bytes of memory from ``address`` on.
    READ_MEMORY = 0x10
    #: Write the payload to memory.
    WRITE_MEMORY = 0x11
    #: Write ``length`` zeros to memory; no payload.
    CLEAR_MEMORY = 0x12
    #: ``length`` bytes of registers: multiples of 4, from an offset that is one.
    READ_REGISTERS = 0x20
    #: Write the payload to registers, a word after the other.
    WRITE_REGISTERS = 0x21
    #: Ask for the bridge's state. ``sequence`` is a token that the state repeats; ``address`` is the sequence number from
    #: which on answers are wanted once more, or NO_REPLAY.
    POLL = 0x40
    #: Reset the system, unless nothing was executed since the last reset. There is no answer.
    RESET = 0x42


class Status(enum.IntEnum):
    """How a request went, the worst of its words."""

    OKAY = 0
    #: Outside the address map, or not of the form that the command wants; nothing was executed.
    REFUSED = 1
    #: The bus answered SLVERR.
    SLAVE_ERROR = 2
    #: The bus answered DECERR.
    DECODE_ERROR = 3


class StateFlag(enum.IntFlag):
    """Flags of a state."""

    #: The interrupt pin is high.
    INTERRUPT = 1
    #: No request was executed since power-up or the last reset.
    FRESH = 2
    #: A frame was lost on the way to the bridge.
    MISSING = 4

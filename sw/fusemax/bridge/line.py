"""What a link needs of a line, what it counts there, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from ..errors import DeviceError

__all__ = ["ByteStream", "Counts", "LinkError", "LinkRestartedError", "LinkTimeoutError"]


class LinkError(DeviceError):
    """The bridge cannot be talked to."""


class LinkTimeoutError(LinkError, TimeoutError):
    """The bridge does not answer."""


class LinkRestartedError(LinkError):
    """The bridge was reset or configured anew by someone else: what it was told before is gone."""


class ByteStream(Protocol):
    """What a link needs of a stream; ``serial.Serial`` has it."""

    #: Seconds that :meth:`read` waits for the first byte; None: as long as it takes.
    timeout: float | None

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""
        ...

    def read(self, size: int = 1, /) -> bytes:
        """Up to ``size`` bytes; fewer if time is over."""
        ...

    def write(self, text: bytes, /) -> int | None:
        """Send all of ``text``."""
        ...


@dataclass
class Counts:
    """What a link has sent, received and repeated.

    Members
    -------
    requests, answers
        Numbered requests, each counted once, and their answers.
    repeated_requests
        Requests sent again.
    polls
        POLLs sent because something was missing.
    damaged
        Frames received that were not sound.
    unexpected
        Sound answers that were not the one waited for: repetitions, or behind a gap.
    timeouts
        Waits that ended without an answer.
    bytes_sent, bytes_received
        On the line, everything.
    """

    requests: int = 0
    answers: int = 0
    repeated_requests: int = 0
    polls: int = 0
    damaged: int = 0
    unexpected: int = 0
    timeouts: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

"""Requests over a byte stream that may lose, damage or invent bytes: each is executed once and answered.

The host alone keeps time. It has several requests under way, and goes back to one when the bridge says that it was lost
or, asked after a time without answers, that it has not come.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..spec.bridge import BRIDGE_VERSION, HEADER, NO_REPLAY, SEQUENCES, WINDOW, Command, StateFlag
from .frame import Answer, Deframer, FrameError, Request, State, answer_bytes, parse_answer
from .line import ByteStream, Counts, LinkError, LinkRestartedError, LinkTimeoutError

__all__ = ["Link", "Order"]

#: Longer is no line. The operating system waits for no more than some days.
MOST_LATENCY_S = 3600
#: Bits of a byte on the line.
BYTE_BITS = 10
#: Longest payload of a bridge that has not yet said its own.
PAYLOAD_BYTES = 512
#: What the bridge's buffers keep free for frames without numbers.
RESERVE_BYTES = 64
#: The link is given up after this many questions for its state without an answer, or when for this many times the time that
#: the bridge's full buffers take on the line no request was answered.
ATTEMPTS = 32
ADVICE = "see to cable and power, and open the device again"


@dataclass(frozen=True)
class Order:
    """A request that has no number yet."""

    command: Command
    address: int
    length: int
    payload: bytes = b""

    @property
    def receive_bytes(self) -> int:
        """Bytes that the bridge keeps until it is executed."""
        return HEADER.size + len(self.payload)

    @property
    def send_bytes(self) -> int:
        """Bytes that the bridge keeps of its answer."""
        return answer_bytes(self.length if self.command in (Command.READ_MEMORY, Command.READ_REGISTERS) else 0)


@dataclass(frozen=True)
class Entry:
    """A request under way."""

    order: Order
    sequence: int
    coded: bytes


class Link:
    """The way to a bridge.

    Parameters
    ----------
    stream
        The line.
    baud
        Its bits per second; time-outs follow from it.
    clock
        Seconds, in the stream's time.
    latency_s
        Time that bytes may spend on the way beside that on the line.

    Members
    -------
    counts : Counts
    clock : callable
        Seconds, in the stream's time.
    interrupt : bool
        The interrupt pin as last heard of.

    Raises
    ------
    LinkError
        From every method that talks to the bridge; the next call takes up the connection again.
    """

    def __init__(
        self,
        stream: ByteStream,
        *,
        baud: float,
        clock: Callable[[], float] = time.monotonic,
        latency_s: float = 0.05,
    ) -> None:
        if not baud > 0:
            raise ValueError(f"baud must be positive, not {baud!r}")
        if not 0 <= latency_s <= MOST_LATENCY_S:
            raise ValueError(f"latency_s must be from 0 to {MOST_LATENCY_S} seconds, not {latency_s!r}")
        self.counts = Counts()
        self.interrupt = False
        self._stream, self.clock = stream, clock
        self._byte_s, self._latency_s = BYTE_BITS / baud, latency_s
        self._deframer = Deframer()
        self._state: State | None = None
        self._token = random.randrange(1, 256)
        self._sequence = 0
        #: Requests without answer, and how many of them were sent.
        self._waiting: deque[Entry] = deque()
        self._sent = 0
        #: Token of the POLL that is not answered, and the number of the next request when it was sent.
        self._poll: int | None = None
        self._poll_sequence = 0
        self._settled = False
        self._executed = False

    @property
    def state(self) -> State:
        """What the bridge has said last; connects if it has not been asked."""
        if self._state is None or not self._settled:
            return self.connect()
        return self._state

    def connect(self) -> State:
        """Find the bridge and the number that it waits for; forget what was under way."""
        self._settled = False
        self._waiting.clear()
        self._sent = 0
        # Twice: the first answer might be a late one, meant for someone before us.
        self._ask(b"")
        state = self._ask(b"")
        if state.version != BRIDGE_VERSION:
            raise LinkError(f"the bridge's version must be {BRIDGE_VERSION}, not {state.version}")
        self._sequence = state.sequence
        self._executed = False
        self._settled = True
        return state

    def reset(self) -> State:
        """Reset the system behind the bridge, whatever it is doing; connects anew."""
        reset = Request(Command.RESET, 0).to_bytes()
        for _ in range(ATTEMPTS):
            self._settled = False
            if self._ask(reset).flags & StateFlag.FRESH:
                return self.connect()
        raise LinkError("the bridge must be fresh after a reset, but is not")

    def poll(self) -> State:
        """Ask for the bridge's state, while nothing is under way."""
        if not self._settled:
            return self.connect()
        return self._ask(b"")

    def listen(self, timeout_s: float) -> bool:
        """Wait until the bridge says that the interrupt pin is high, from the latest :meth:`poll` on; whether it has."""
        end = self.clock() + timeout_s
        while not self.interrupt and (left := end - self.clock()) > 0:
            for frame in self._receive(left):
                if isinstance(frame, State):
                    self._note(frame)
        return self.interrupt

    def exchange(self, orders: Iterable[Order], each: Callable[[Order, Answer], None]) -> None:
        """Have ``orders`` executed in order; ``each`` is told every answer, in order.

        Raises
        ------
        LinkTimeoutError
            If the bridge does not answer any more.
        LinkRestartedError
            If it has forgotten what it was told.
        """
        state = self.state
        # An exception on the way, from anywhere, leaves requests under way: the next call then connects anew.
        self._settled = False
        source = iter(orders)
        coming = next(source, None)
        deadline = last_answer = self.clock()
        patience_s = ATTEMPTS * (self._latency_s + (state.receive_bytes + state.send_bytes) * self._byte_s)
        self._poll = None
        went_back = late = missing = False
        while coming is not None or self._waiting:
            while coming is not None and self._fits(coming, state):
                self._queue(coming)
                coming = next(source, None)
            sent = self._send()
            if late or went_back or (missing and self._poll is None):
                # Behind requests that are sent again: its answer tells what of them has come. Until then nothing else does.
                self._send_poll(self._next_answer if late or missing else NO_REPLAY)
                sent, missing = True, False
            if sent:
                deadline = self.clock() + self._quiet_s()

            went_back = late = False
            frames = self._receive(deadline - self.clock())
            for frame in frames:
                if frame is None:
                    missing = True
                elif isinstance(frame, State):
                    went_back |= self._hear(frame)
                elif self._sent and frame.sequence == self._next_answer:
                    missing = False
                    entry = self._waiting.popleft()
                    self._sent -= 1
                    self._executed = True
                    self.counts.answers += 1
                    last_answer = self.clock()
                    deadline = last_answer + self._quiet_s()
                    each(entry.order, frame)
                else:
                    self.counts.unexpected += 1
                    missing |= (frame.sequence - self._next_answer) % SEQUENCES < self._sent
            if not frames and self._waiting and self.clock() >= deadline:
                late = True
                self.counts.timeouts += 1
                if self.clock() - last_answer > patience_s:
                    raise LinkTimeoutError(f"the bridge must answer a request, but has not for {patience_s:.3g} s; {ADVICE}")
        self._settled = True

    # -- requests --------------------------------------------------------------------------------------------

    @property
    def _next_answer(self) -> int:
        """Number of the answer that is due."""
        return self._waiting[0].sequence if self._waiting else self._sequence

    def _fits(self, order: Order, state: State) -> bool:
        """Whether the bridge has room for one more."""
        orders = [entry.order for entry in self._waiting]
        return not orders or (
            len(orders) < WINDOW
            and sum(each.receive_bytes for each in orders) + order.receive_bytes <= state.receive_bytes - RESERVE_BYTES
            and sum(each.send_bytes for each in orders) + order.send_bytes <= state.send_bytes - RESERVE_BYTES
        )

    def _queue(self, order: Order) -> None:
        request = Request(order.command, self._sequence, order.length, order.address, order.payload)
        self._waiting.append(Entry(order, self._sequence, request.to_bytes()))
        self._sequence = (self._sequence + 1) % SEQUENCES
        self.counts.requests += 1

    def _send(self) -> bool:
        """Send what waits and was not sent; whether that was something."""
        text = b"".join(entry.coded for entry in list(self._waiting)[self._sent :])
        self._sent = len(self._waiting)
        self._write(text)
        return bool(text)

    def _go_back(self, sequence: int) -> bool:
        """Send requests from this number on again; whether one of them was sent before."""
        place = (sequence - self._next_answer) % SEQUENCES
        if place >= self._sent:
            return False
        self.counts.repeated_requests += self._sent - place
        self._sent = place
        # What has come of a frame whose end was lost ends here.
        self._write(b"\0")
        return True

    def _hear(self, state: State) -> bool:
        """A state in the midst of requests; whether some must be sent again."""
        self._note(state)
        if self._poll is not None and state.token == self._poll:
            self._poll = None
            lost = (self._poll_sequence - state.sequence) % SEQUENCES
            if (state.flags & StateFlag.FRESH and self._executed) or lost > WINDOW:
                raise LinkRestartedError(
                    "the bridge must go on from where it was, but was reset or configured anew; open the device again"
                )
            return lost > 0 and self._go_back(state.sequence)
        # Without having been asked, the bridge is heard only while no answer to a question is due, which says more.
        return self._poll is None and bool(state.flags & StateFlag.MISSING) and self._go_back(state.sequence)

    def _send_poll(self, replay_from: int) -> None:
        """Ask for the state, and for the answers from a number on once more."""
        self._token = self._token % 255 + 1
        self._poll = self._token
        self._poll_sequence = self._waiting[self._sent].sequence if self._sent < len(self._waiting) else self._sequence
        self.counts.polls += 1
        self._write(b"\0" + Request(Command.POLL, self._token, 0, replay_from).to_bytes())

    def _ask(self, before: bytes) -> State:
        """Send ``before`` and a POLL until the state comes that answers it."""
        begin = self.clock()
        for _ in range(ATTEMPTS):
            self._token = self._token % 255 + 1
            self._write(b"\0" + before + Request(Command.POLL, self._token, 0, NO_REPLAY).to_bytes())
            end = self.clock() + self._quiet_s()
            while (left := end - self.clock()) > 0:
                found = None
                for frame in self._receive(left):
                    if isinstance(frame, State):
                        self._note(frame)
                        found = frame if frame.token == self._token else found
                if found is not None:
                    return found
            self.counts.timeouts += 1
        raise LinkTimeoutError(f"the bridge must say its state, but has not for {self.clock() - begin:.3g} s; {ADVICE}")

    # -- line ------------------------------------------------------------------------------------------------

    def _quiet_s(self) -> float:
        """After this time without an answer something is missing: everything under way has had the time to come and go."""
        entries = list(self._waiting)[: self._sent]
        # An answer that is on its way already goes first.
        other_bytes = RESERVE_BYTES + answer_bytes(PAYLOAD_BYTES if self._state is None else self._state.payload_bytes)
        line_bytes = sum(len(entry.coded) + entry.order.send_bytes for entry in entries) + other_bytes
        return self._latency_s + 1.25 * line_bytes * self._byte_s

    def _note(self, state: State) -> None:
        self._state = state
        self.interrupt = bool(state.flags & StateFlag.INTERRUPT)

    def _write(self, text: bytes) -> None:
        if text:
            self.counts.bytes_sent += len(text)
            self._stream.write(text)

    def _receive(self, timeout_s: float) -> list[Answer | State | None]:
        """Frames that the next bytes complete, which come within the time; None for one that is not sound."""
        self._stream.timeout = max(timeout_s, 0.0)
        text = self._stream.read(max(1, self._stream.in_waiting))
        self.counts.bytes_received += len(text)
        frames: list[Answer | State | None] = []
        for body in self._deframer.feed(text):
            try:
                frames.append(None if body is None else parse_answer(body))
            except FrameError:
                frames.append(None)
        self.counts.damaged += frames.count(None)
        return frames

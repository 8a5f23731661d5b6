"""A bridge in plain Python, byte for byte as in docs/reference/bridge.md, and a line that loses, damages, invents bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from fusemax.bridge.frame import Answer, Deframer, FrameError, Request, State
from fusemax.spec.bridge import BRIDGE_VERSION, NO_REPLAY, REGISTER_BYTES, SEQUENCES, WINDOW, Command, StateFlag, Status

__all__ = ["BridgeModel", "Line", "NoisyLine", "Registers"]

BAUD = 1e6


class Registers:
    """Words that count: every write adds, every read adds one afterwards, so that a repeated access shows."""

    def __init__(self) -> None:
        self.words = [0] * (REGISTER_BYTES // 4)

    def read(self, offset: int) -> int:
        word = self.words[offset // 4]
        self.words[offset // 4] = (word + 1) & 0xFFFF_FFFF
        return word

    def write(self, offset: int, value: int) -> None:
        self.words[offset // 4] = (self.words[offset // 4] + value) & 0xFFFF_FFFF


class BridgeModel:
    """Executes requests on a bytearray and on registers; bytes in, bytes out.

    Members
    -------
    executed
        Requests executed, in order.
    irq
        The interrupt pin.
    on_poll
        Called before a POLL is answered.
    """

    def __init__(
        self, memory: bytearray | memoryview, registers: object = None, payload_bytes: int = 64, buffer_bytes: int = 512
    ):
        self.memory, self.registers = memory, Registers() if registers is None else registers
        self.payload_bytes, self.buffer_bytes = payload_bytes, buffer_bytes
        self.executed: list[Request] = []
        self.resets = 0
        self.irq = False
        self.on_poll: Callable[[], None] = lambda: None
        self.configure()

    def configure(self) -> None:
        """As after power-up."""
        self.sequence = 0
        self.fresh = True
        self.kept: dict[int, bytes] = {}
        self.gap_told = False
        self.irq_told = False
        self._deframer = Deframer()

    def feed(self, text: bytes) -> bytes:
        """What the bridge says to ``text``."""
        reply = b""
        for body in self._deframer.feed(text):
            try:
                reply += self._lost() if body is None else self._hear(Request.from_body(body))
            except FrameError:
                reply += self._lost()
        return reply + self.event()

    def event(self) -> bytes:
        """A state if the interrupt has risen."""
        if self.irq and not self.irq_told:
            return self._state(0, False)
        self.irq_told &= self.irq
        return b""

    def _state(self, token: int, missing: bool) -> bytes:
        self.irq_told = self.irq
        flags = StateFlag.INTERRUPT * self.irq | StateFlag.FRESH * self.fresh | StateFlag.MISSING * missing
        sizes = self.payload_bytes, self.buffer_bytes, self.buffer_bytes
        return State(self.sequence, token, StateFlag(flags), BRIDGE_VERSION, *sizes, 8, len(self.memory)).to_bytes()

    def _lost(self) -> bytes:
        self.gap_told = True
        return self._state(0, True)

    def _hear(self, request: Request) -> bytes:
        if request.command == Command.RESET:
            self.resets += not self.fresh
            self.fresh = True
            return b""
        if request.command == Command.POLL:
            self.on_poll()
            again = b""
            number = request.address
            if number < NO_REPLAY and (self.sequence - number) % SEQUENCES <= WINDOW:
                while number != self.sequence:
                    again += self.kept[number]
                    number = (number + 1) % SEQUENCES
            return self._state(request.sequence, False) + again
        ahead = (request.sequence - self.sequence) % SEQUENCES
        if ahead:
            return self._lost() if ahead < SEQUENCES // 2 and not self.gap_told else b""
        self.gap_told = self.fresh = False
        answer = self._execute(request).to_bytes()
        self.kept[self.sequence] = answer
        self.sequence = (self.sequence + 1) % SEQUENCES
        return answer

    def _execute(self, request: Request) -> Answer:
        command, start, end = request.command, request.address, request.address + request.length
        of_memory = command in (Command.READ_MEMORY, Command.WRITE_MEMORY, Command.CLEAR_MEMORY)
        reads = command in (Command.READ_MEMORY, Command.READ_REGISTERS)
        refused = (
            command not in tuple(Command)
            or not request.length
            or (reads and request.length > self.payload_bytes)
            or (end > len(self.memory) if of_memory else end > REGISTER_BYTES or start % 4 or request.length % 4)
        )
        if refused:
            return Answer(command, request.sequence, Status.REFUSED)
        self.executed.append(request)
        payload = b""
        if of_memory and reads:
            payload = bytes(self.memory[start:end])
        elif of_memory:
            self.memory[start:end] = request.payload if command & 1 else bytes(request.length)
        elif reads:
            payload = b"".join(self.registers.read(offset).to_bytes(4, "little") for offset in range(start, end, 4))
        else:
            for offset in range(start, end, 4):
                self.registers.write(offset, int.from_bytes(request.payload[offset - start : offset - start + 4], "little"))
        return Answer(command, request.sequence, Status.OKAY, payload)


@dataclass
class Line:
    """The host's end of a line to a bridge model; time passes by bytes and by waiting."""

    bridge: BridgeModel
    timeout: float | None = 0.0
    seconds: float = 0.0
    text: bytearray = field(default_factory=bytearray)

    @property
    def in_waiting(self) -> int:
        return len(self.text)

    def now(self) -> float:
        return self.seconds

    def damage(self, text: bytes) -> bytes:
        return text

    def write(self, text: bytes) -> int:
        self.seconds += len(text) * 10 / BAUD
        self.text += self.damage(self.bridge.feed(self.damage(text)))
        return len(text)

    def read(self, size: int = 1) -> bytes:
        self.text += self.damage(self.bridge.event())
        if not self.text:
            self.seconds += self.timeout or 1.0
        text = bytes(self.text[:size])
        del self.text[:size]
        self.seconds += len(text) * 10 / BAUD
        return text


@dataclass
class NoisyLine(Line):
    """Each byte is flipped, dropped or preceded by another one with these chances, in both directions."""

    rng: random.Random = field(default_factory=random.Random)
    flip: float = 0.0
    drop: float = 0.0
    extra: float = 0.0

    def damage(self, text: bytes) -> bytes:
        result = bytearray()
        for byte in text:
            if self.rng.random() < self.extra:
                result.append(self.rng.randrange(256))
            if self.rng.random() < self.flip:
                byte ^= 1 << self.rng.randrange(8)
            if self.rng.random() >= self.drop:
                result.append(byte)
        return bytes(result)

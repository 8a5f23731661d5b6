"""Link against a bridge in Python: whatever the line does, every request is executed once and answered."""

from __future__ import annotations

import os
import pty
import random
import select
import threading
import tty

import pytest
from bridge_model import BAUD, BridgeModel, Line, NoisyLine, Registers
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.bridge import Link, LinkError, LinkRestartedError, LinkTimeoutError, Order
from fusemax.bridge.frame import Answer, Request
from fusemax.spec.bridge import WINDOW, Command, StateFlag, Status

MEMORY_BYTES = 1024


def random_orders(rng: random.Random, count: int) -> list[Order]:
    """Reads and writes of memory and registers, some of them outside."""
    orders = []
    for _ in range(count):
        command = rng.choice([command for command in Command if not command & Command.POLL])
        length = rng.randint(1, 64)
        address = rng.randrange(MEMORY_BYTES - 32)
        if command & 0x20:
            length, address = 4 * rng.randint(1, 4), 4 * rng.randrange(1024)
        orders.append(Order(command, address, length, rng.randbytes(length) if command & 1 else b""))
    return orders


def run(line: Line, orders: list[Order], link: Link | None = None) -> tuple[list[Answer], Link]:
    link = Link(line, baud=BAUD, clock=line.now, latency_s=0.001) if link is None else link
    answers: list[Answer] = []
    link.exchange(orders, lambda order, answer: answers.append(answer))
    return answers, link


def expected(orders: list[Order]) -> tuple[list[Answer], BridgeModel]:
    """Answers and bridge if nothing is lost."""
    bridge = BridgeModel(bytearray(MEMORY_BYTES))
    return run(Line(bridge), orders)[0], bridge


def check(line: Line, orders: list[Order], answers: list[Answer]) -> None:
    due, model = expected(orders)
    bridge = line.bridge
    assert [(answer.status, answer.payload) for answer in answers] == [(answer.status, answer.payload) for answer in due]
    assert bridge.memory == model.memory
    assert bridge.registers.words == model.registers.words
    assert len(bridge.executed) == sum(answer.status == Status.OKAY for answer in due)


def test_a_quiet_line_needs_no_repetitions() -> None:
    orders = random_orders(random.Random(1), 600)
    line = Line(BridgeModel(bytearray(MEMORY_BYTES)))
    answers, link = run(line, orders)
    check(line, orders, answers)
    counts = link.counts
    assert (counts.requests, counts.answers) == (600, 600)
    assert counts.repeated_requests == counts.polls == counts.damaged == counts.timeouts == counts.unexpected == 0


@pytest.mark.parametrize("seed", range(6))
def test_noise_in_both_directions(seed: int) -> None:
    rng = random.Random(seed)
    orders = random_orders(rng, 300)
    chances = {name: rng.choice((0.0005, 0.002, 0.006)) for name in ("flip", "drop", "extra")}
    line = NoisyLine(BridgeModel(bytearray(MEMORY_BYTES)), rng=rng, **chances)
    answers, link = run(line, orders)
    check(line, orders, answers)
    assert link.counts.answers == 300
    assert link.counts.repeated_requests > 0 and link.counts.polls > 0 and link.counts.damaged > 0


class ScriptedLine(Line):
    """Spoils the writes and replies that a script says: 0 leaves, 1 loses, 2 halves, 3 flips a bit, 4 adds garbage."""

    script: list[int]

    def damage(self, text: bytes) -> bytes:
        action = self.script.pop() if text and self.script else 0
        middle = len(text) // 2
        return [
            text,
            b"",
            text[:middle],
            text[:middle] + bytes([text[middle] ^ 4]) + text[middle + 1 :] if text else b"",
            b"\x07\x00\x13" + text,
        ][action]


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(0, 1000), st.integers(1, 40))
@settings(max_examples=150)
def test_whatever_is_spoilt_is_repeated(script: list[int], seed: int, count: int) -> None:
    orders = random_orders(random.Random(seed), count)
    line = ScriptedLine(BridgeModel(bytearray(MEMORY_BYTES)))
    line.script = []
    link = Link(line, baud=BAUD, clock=line.now, latency_s=0.001)
    link.connect()
    line.script = list(script)
    check(line, orders, run(line, orders, link)[0])


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=10))
@settings(max_examples=50)
def test_garbage_before_and_between_calls_does_no_harm(garbage: list[bytes]) -> None:
    line = Line(BridgeModel(bytearray(MEMORY_BYTES)))
    link = Link(line, baud=BAUD, clock=line.now, latency_s=0.001)
    orders = random_orders(random.Random(len(garbage)), 4 * len(garbage))
    answers = []
    for place, text in enumerate(garbage):
        line.write(text)
        line.text += text
        answers += run(line, orders[4 * place : 4 * place + 4], link)[0]
    check(line, orders, answers)


def test_requests_are_under_way_within_the_window_and_the_buffers() -> None:
    class Watched(BridgeModel):
        """Answers nothing until told to, and sees how much comes."""

        held = b""
        most = 0

        def feed(self, text: bytes) -> bytes:
            return super().feed(text) if self.most < 0 else self._hold(text)

        def _hold(self, text: bytes) -> bytes:
            self.held += text
            self.most = max(self.most, self.held.count(b"\0"))
            return b""

    for length, most in ((4, WINDOW), (64, (512 - 64) // 72)):
        bridge = Watched(bytearray(MEMORY_BYTES))
        bridge.most = -1
        line = Line(bridge)
        link = Link(line, baud=BAUD, clock=line.now, latency_s=0.001)
        link.connect()
        bridge.most = 0
        with pytest.raises(LinkTimeoutError, match="the bridge must answer a request, but has not for"):
            run(line, [Order(Command.WRITE_MEMORY, 0, length, bytes(length))] * 50, link)
        requests = {frame for frame in bridge.held.split(b"\0") if len(frame) > length + 12}
        assert len(requests) == most


def test_nobody_there() -> None:
    line = ScriptedLine(BridgeModel(bytearray(MEMORY_BYTES)))
    line.script = [1] * 10_000
    with pytest.raises(LinkTimeoutError, match="the bridge must say its state, but has not for"):
        Link(line, baud=BAUD, clock=line.now).connect()
    assert 0.5 < line.seconds < 10


def test_time_outs_follow_the_baud_rate() -> None:
    waits = []
    for baud in (9600.0, 3e6):
        line = ScriptedLine(BridgeModel(bytearray(MEMORY_BYTES)))
        line.script = [1] * 10_000
        with pytest.raises(LinkTimeoutError):
            Link(line, baud=baud, clock=line.now, latency_s=0.001).connect()
        waits.append(line.seconds)
    assert waits[0] > 50 * waits[1]


@pytest.mark.parametrize("executed", [5, 30])
def test_a_bridge_that_was_configured_anew_is_noticed(executed: int) -> None:
    """Also if it could be waiting for a request that was lost, from its number alone."""
    line = Line(BridgeModel(bytearray(MEMORY_BYTES)))
    _, link = run(line, random_orders(random.Random(2), executed))
    line.bridge.configure()
    with pytest.raises(LinkRestartedError, match="was reset or configured anew"):
        run(line, [Order(Command.READ_MEMORY, 0, 4)], link)
    # The next call takes up the connection again.
    assert run(line, [Order(Command.READ_MEMORY, 0, 4)], link)[0][0].status == Status.OKAY


def test_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge_model.BRIDGE_VERSION", 2)
    with pytest.raises(LinkError, match="the bridge's version must be 1, not 2"):
        run(Line(BridgeModel(bytearray(MEMORY_BYTES))), [])


def test_an_exception_on_the_way_leaves_a_link_that_works() -> None:
    line = Line(BridgeModel(bytearray(MEMORY_BYTES)))
    link = Link(line, baud=BAUD, clock=line.now, latency_s=0.001)

    def interrupt(order: Order, answer: Answer) -> None:
        if answer.sequence == 5:
            raise KeyboardInterrupt

    orders = [Order(Command.WRITE_REGISTERS, 4 * place, 4, b"\x01\0\0\0") for place in range(40)]
    with pytest.raises(KeyboardInterrupt):
        link.exchange(orders, interrupt)
    answers, _ = run(line, [Order(Command.READ_REGISTERS, 0, 64)], link)
    words = memoryview(answers[0].payload).cast("I").tolist()
    # Those before it are done, those behind it may be, none is twice.
    assert words[:5] == [1] * 5
    assert set(words) <= {0, 1}


def test_late_answers_of_an_earlier_host_are_not_taken() -> None:
    bridge = BridgeModel(bytearray(MEMORY_BYTES))
    line = Line(bridge)
    first = Link(line, baud=BAUD, clock=line.now, latency_s=0.001)
    first.connect()
    # Its answers are still on the way when the next host begins, which cannot know the number to go on with.
    line.write(b"".join(Request(Command.READ_MEMORY, number, 8, 0).to_bytes() for number in range(3)))
    bridge.memory[:8] = b"newvalue"
    answers, _ = run(line, [Order(Command.READ_MEMORY, 0, 8)])
    assert answers[0].payload == b"newvalue"


def test_reset_is_done_once_whatever_is_lost() -> None:
    rng = random.Random(4)
    for _ in range(20):
        line = NoisyLine(BridgeModel(bytearray(MEMORY_BYTES)), rng=rng, drop=0.01, flip=0.01)
        _, link = run(line, [Order(Command.WRITE_MEMORY, 0, 4, b"abcd")])
        assert link.reset().flags & StateFlag.FRESH
        assert line.bridge.resets == 1
        link.reset()
        assert line.bridge.resets == 1
        run(line, [Order(Command.WRITE_MEMORY, 0, 4, b"abcd")], link)


def test_interrupt() -> None:
    line = Line(BridgeModel(bytearray(MEMORY_BYTES)))
    link = Link(line, baud=BAUD, clock=line.now, latency_s=0.001)
    link.connect()
    assert not link.poll().flags & StateFlag.INTERRUPT
    assert not link.listen(0.01)
    line.bridge.irq = True
    assert link.listen(0.01)
    line.bridge.irq = False
    link.poll()
    assert not link.interrupt
    # The bridge's own word is lost: asking finds it.
    line.bridge.irq = True
    line.bridge.event()
    assert not link.listen(0.01)
    link.poll()
    assert link.interrupt


class Terminal:
    """The host's end of a pseudo-terminal, in real time."""

    def __init__(self, file: int) -> None:
        self.file, self.timeout = file, 0.0

    @property
    def in_waiting(self) -> int:
        return 0

    def read(self, size: int = 1) -> bytes:
        ready, _, _ = select.select([self.file], [], [], self.timeout)
        return os.read(self.file, 4096) if ready else b""

    def write(self, text: bytes) -> int:
        view = memoryview(text)
        while view:
            view = view[os.write(self.file, view) :]
        return len(text)


def test_over_a_pseudo_terminal_in_real_time() -> None:
    ours, theirs = pty.openpty()
    for file in (ours, theirs):
        tty.setraw(file)
    orders = random_orders(random.Random(8), 200)
    noisy = NoisyLine(BridgeModel(bytearray(MEMORY_BYTES)), rng=random.Random(8), drop=2e-4, flip=2e-4)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            if select.select([theirs], [], [], 0.01)[0]:
                os.write(theirs, noisy.damage(noisy.bridge.feed(noisy.damage(os.read(theirs, 4096)))))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        link = Link(Terminal(ours), baud=3e6, latency_s=0.05)
        answers: list[Answer] = []
        link.exchange(orders, lambda order, answer: answers.append(answer))
    finally:
        stop.set()
        thread.join()
        os.close(ours)
        os.close(theirs)
    check(noisy, orders, answers)


def test_registers_of_the_model_count() -> None:
    registers = Registers()
    registers.write(4, 5)
    registers.write(4, 6)
    assert [registers.read(4), registers.read(4)] == [11, 12]


def test_baud_is_checked() -> None:
    with pytest.raises(ValueError, match="baud must be positive, not 0"):
        Link(Line(BridgeModel(bytearray(8))), baud=0)

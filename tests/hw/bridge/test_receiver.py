"""Receiver of requests: what the host's own decoder finds sound comes through, and nothing else does."""

import random

import pytest
from bench import Bench

from fusemax.bridge.frame import Deframer, FrameError, Request, encode
from fusemax.spec.bridge import HEADER, Command
from fusemax_hw.bridge.receiver import FrameReceiver

DEPTH = 256


class Rig:
    """Receiver whose bytes come 10 cycles apart or more, and whose requests are taken with stalls."""

    def __init__(self, text, seed, errors=(), go=None, depth=DEPTH, settle=3 * DEPTH):
        self.settle = settle
        self.dut = FrameReceiver(depth)
        self.bench = bench = Bench(self.dut, seed)
        self.text, self.errors = list(text), set(errors)
        self.place, self.wait = 0, 0
        self.lost = self.resets = 0
        self.now = False
        bench.each(self._next)
        bench.drive(self.dut.valid, lambda: self.now)
        bench.drive(self.dut.data, lambda: self.text[self.place - 1] if self.now else bench.rng.getrandbits(8))
        bench.drive(self.dut.error, lambda: self.place - 1 in self.errors if self.now else bench.rng.getrandbits(1))
        bench.watch(self.dut.lost, lambda lost: setattr(self, "lost", self.lost + lost))
        bench.watch(self.dut.reset, lambda reset: setattr(self, "resets", self.resets + reset))
        self.body = bench.sink(self.dut.body, bench.stalls() if go is None else go)

    def _next(self):
        self.now = not self.wait and self.place < len(self.text)
        if self.now:
            self.place += 1
            self.wait = self.bench.rng.choice((9, 9, 10, 15))
        elif self.wait:
            self.wait -= 1

    def run(self):
        self.bench.run(lambda: self.place == len(self.text), 20 * len(self.text) + 20_000, settle=self.settle)
        return bytes(self.body.received)


def sound(text):
    """Headers and payloads of the sound requests in ``text``, how many frames are not sound, how many are RESETs."""
    bodies, lost, resets = b"", 0, 0
    for body in Deframer().feed(bytes(text)):
        try:
            request = Request.from_body(b"" if body is None else body)
        except FrameError:
            lost += 1
            continue
        if request.command == Command.RESET:
            resets += 1
        else:
            bodies += body
    return bodies, lost, resets


def random_request(rng):
    command = rng.choice(list(Command))
    length = rng.choice((0, 1, 2, rng.randrange(30)))
    payload = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length)) if command & 1 else b""
    return Request(command, rng.randrange(256), length, rng.getrandbits(32), payload)


def spoil(rng, text):
    """Flips, losses and extra bytes, some of them zeros."""
    result = bytearray()
    for byte in text:
        chance = rng.random()
        if chance < 0.004:
            result.append(rng.choice((0, 255, rng.randrange(256))))
        if chance < 0.008:
            byte ^= 1 << rng.randrange(8)
        if not 0.008 < chance < 0.012:
            result.append(byte)
    return bytes(result)


@pytest.mark.parametrize("seed", range(4))
def test_sound_requests_among_noise(seed):
    rng = random.Random(seed)
    text = b"".join(random_request(rng).to_bytes() for _ in range(60))
    if seed:
        text = rng.randbytes(40) + spoil(rng, text)
    text += b"\0" + random_request(rng).to_bytes()
    rig = Rig(text, seed)
    bodies, lost, resets = sound(text)
    assert rig.run() == bodies
    assert (rig.lost, rig.resets) == (lost, resets)
    assert bool(lost) == bool(seed)


def test_lengths_that_do_not_match_are_lost():
    def frame(length, payload, command=Command.WRITE_MEMORY):
        return encode(HEADER.pack(command, 0, length, 0) + payload)

    frames = [
        frame(3, b"ab"),
        frame(1, b"ab"),
        frame(4096, b""),
        frame(4097, b"a"),
        frame(65535, b"abc"),
        frame(0, b"a" * 8),
        frame(0, b"abcdefgh" * 2),
        frame(5, b"a", Command.READ_MEMORY),
        encode(b""),
        encode(b"short"),
        encode(bytes(HEADER.size - 1)),
    ]
    good = frame(2, b"ab")
    rig = Rig(b"".join(frames) + good, 1)
    assert rig.run() == HEADER.pack(Command.WRITE_MEMORY, 0, 2, 0) + b"ab"
    assert rig.lost == len(frames)


def test_a_group_that_is_cut_short_is_lost():
    """Also where nothing else shows it: the last group's code says one byte more than there are."""
    rng = random.Random(3)
    request = Request(Command.WRITE_MEMORY, 1, 9, 0, bytes(range(1, 10))).to_bytes()
    code = 0
    while code + request[code] < len(request) - 1:
        code += request[code]
    short = request[:code] + bytes([request[code] + 1]) + request[code + 1 :]
    behind = random_request(rng).to_bytes()
    bodies, lost, _ = sound(short + behind)
    assert lost == 1
    rig = Rig(short + behind, 1)
    assert (rig.run(), rig.lost) == (bodies, lost)


def test_the_longest_groups():
    text = b""
    bodies = b""
    for size in (253 - HEADER.size - 4, 254, 255, 509):
        header = HEADER.pack(Command.WRITE_MEMORY, 0xFF, size, 0x0101_0101)
        text += encode(header + b"\x33" * size)
        bodies += header + b"\x33" * size
    rig = Rig(text, 1, depth=2048, go=lambda: True)
    assert rig.run() == bodies
    assert not rig.lost


def test_a_byte_without_stop_bit_spoils_its_frame():
    frames = [Request(Command.READ_MEMORY, number, 4, 8).to_bytes() for number in range(4)]
    text = b"".join(frames)
    places = (len(frames[0]) + 3, sum(map(len, frames[:3])) - 1)
    rig = Rig(text, 1, errors=places)
    # The second frame is spoilt within; of the third the closing zero is no zero of a frame to be trusted.
    assert [byte for place, byte in enumerate(rig.run()) if place % HEADER.size == 1] == [0, 3]
    assert rig.lost == 2


def test_a_full_ring_loses_frames_whole():
    rng = random.Random(5)
    requests = [Request(Command.WRITE_MEMORY, number, 20, 0, rng.randbytes(20)) for number in range(25)]
    text = b"".join(request.to_bytes() for request in requests)
    rig = Rig(text, 1, go=lambda: rig.place >= len(text) or rig.bench.cycle % 200 == 0)
    received = rig.run()
    size = HEADER.size + 20
    assert len(received) % size == 0
    numbers = [received[place + 1] for place in range(0, len(received), size)]
    assert numbers == sorted(set(numbers))
    assert 0 < rig.lost == len(requests) - len(numbers)
    for place, number in enumerate(numbers):
        assert received[place * size + HEADER.size : (place + 1) * size] == requests[number].payload
    # Header and payload of as many as fit.
    assert len(numbers) >= (DEPTH - 1) // size


def test_flush_forgets_requests():
    frames = [Request(Command.READ_MEMORY, number, 4, 8).to_bytes() for number in range(6)]
    text = b"".join(frames)
    rig = Rig(text, 1, go=lambda: rig.place > sum(map(len, frames[:4])) + 2)
    flushed = []

    def flush():
        if len(flushed) == 1:
            flushed.append(True)
            rig.body.forget()
        now = not flushed and rig.place > sum(map(len, frames[:4])) + 1
        if now:
            flushed.append(True)
        return now

    rig.bench.drive(rig.dut.flush, flush)
    received = rig.run()
    assert received[1 :: HEADER.size] == bytes([4, 5])

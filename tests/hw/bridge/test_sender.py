"""Sender of answers: frames as the host reads them, once each and again when told to."""

import random
from itertools import pairwise

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from bench import Bench

from fusemax.bridge.frame import Deframer
from fusemax_hw.bridge.sender import FrameSender, FrameWriter


class Pair(wiring.Component):
    """Writer and sender as they are joined in the bridge."""

    def __init__(self, depth):
        self.writer, self.sender = FrameWriter(depth), FrameSender(depth)
        members = self.sender.signature.members
        super().__init__(
            {
                "answer": self.writer.signature.members["answer"],
                "bytes": members["bytes"],
                "sequence": members["sequence"],
                "done": Out(1),
                **{name: In(members[name].shape) for name in ("numbered", "replay", "replay_from", "drop")},
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.writer, m.submodules.sender = writer, sender = self.writer, self.sender
        connect(m, flipped(self.answer), writer.answer)
        connect(m, sender.bytes, flipped(self.bytes))
        m.d.comb += [
            self.sequence.eq(sender.sequence),
            self.done.eq(writer.done),
            sender.numbered.eq(self.numbered),
            sender.replay.eq(self.replay),
            sender.replay_from.eq(self.replay_from),
            sender.drop.eq(self.drop),
            sender.write.eq(writer.write),
            sender.done.eq(writer.done),
            sender.end.eq(writer.end),
            writer.begin.eq(sender.begin),
            writer.enable.eq(sender.enable),
        ]
        return m


def items(bodies):
    return [{"byte": byte, "last": place == len(body) - 1} for body in bodies for place, byte in enumerate(body)]


def random_body(rng, longest):
    size = rng.choice((1, 2, rng.randint(1, longest), longest))
    return rng.choice((rng.randbytes(size), bytes(size), b"\x44" * size, bytes(rng.choice((0, 7)) for _ in range(size))))


class Rig:
    """Feeds bodies; ``kinds`` tells whether each is numbered."""

    def __init__(self, bodies, seed, kinds=None, depth=1024, slow=False, go=None, feed=None):
        self.dut = Pair(depth)
        self.bench = bench = Bench(self.dut, seed)
        self.kinds = [True] * len(bodies) if kinds is None else kinds
        self.complete = 0
        self.sequence = 0
        self.source = bench.source(self.dut.answer, items(bodies), feed or go or bench.stalls())
        self.sink = bench.sink(self.dut.bytes, go or ((lambda: bench.cycle % 40 == 0) if slow else bench.stalls()))
        bench.drive(self.dut.numbered, lambda: self.kinds[min(self.complete, len(self.kinds) - 1)])
        bench.watch(self.dut.sequence, lambda sequence: setattr(self, "sequence", sequence))
        bench.watch(self.dut.done, lambda done: setattr(self, "complete", self.complete + done))

    def frames(self):
        return list(Deframer().feed(bytes(self.sink.received)))


@pytest.mark.parametrize("seed", range(3))
def test_frames_are_the_hosts(seed):
    rng = random.Random(seed)
    bodies = [random_body(rng, 40) for _ in range(40)]
    rig = Rig(bodies, seed)
    rig.bench.run(lambda: len(rig.frames()) == len(bodies), 100_000)
    assert rig.frames() == bodies
    assert rig.sequence == len(bodies)


@pytest.mark.parametrize("size", [248, 249, 250, 251, 253, 254, 255, 508, 600])
def test_the_longest_groups(size):
    # With the CRC's four bytes the frame has a group of 254 bytes, one fewer, one more.
    rig = Rig([b"\x11" * size], 1)
    rig.bench.run(lambda: len(rig.frames()) == 1, 20_000)
    assert rig.frames() == [b"\x11" * size]


def test_numbers_wrap():
    bodies = [bytes([number & 0xFF]) for number in range(260)]
    rig = Rig(bodies, 1, go=lambda: True)
    rig.bench.run(lambda: rig.complete == len(bodies), 100_000, settle=200)
    assert rig.frames() == bodies
    assert rig.sequence == 260 - 256


def test_frames_without_number_go_first_and_are_not_kept():
    bodies = [bytes([number, 7]) for number in range(20)]
    kinds = [number % 4 != 3 for number in range(20)]
    rig = Rig(bodies, 2, kinds, slow=True)
    rig.bench.run(lambda: len(rig.frames()) == len(bodies), 100_000)
    for numbered in (True, False):
        chosen = [body for body in bodies if kinds[body[0]] == numbered]
        assert [frame for frame in rig.frames() if kinds[frame[0]] == numbered] == chosen


def test_replay():
    bodies = [bytes([number, 9, 0, 9]) for number in range(60)]
    # As a host would have it: at most 15 frames after one that is wanted again.
    rig = Rig(bodies, 3, feed=lambda: rig.complete != 20 or len(rig.frames()) >= 20 + 3 + 15)
    back = {10: 3, 20: 15, 40: 16, 60: 5}
    asked = []

    def replay():
        now = rig.complete in back and rig.complete not in asked
        if now:
            asked.append(rig.complete)
        return now

    rig.bench.drive(rig.dut.replay, replay)
    rig.bench.drive(rig.dut.replay_from, lambda: asked[-1] - back[asked[-1]] if asked else 0)
    rig.bench.run(lambda: rig.complete == 60 and len(asked) == 4, 100_000, settle=2000)
    frames = [frame[0] for frame in rig.frames()]
    assert None not in rig.frames()
    # Each frame in order; going back happens only to what was asked for, and 16 back is too far.
    steps = [(before, after) for before, after in pairwise(frames) if after != before + 1]
    assert [after for _, after in steps] == [7, 5, 55]
    assert frames[0] == 0 and frames[-1] == 59
    assert set(frames) == set(range(60))


def test_drop_makes_room_for_the_next_frame():
    rig = Rig([b"\x01\x02", b"\x03\x04", b"\x05\x06"], 1, [False, False, True], slow=True)
    dropped = []

    def drop():
        now = rig.complete == 1 and not dropped and not rig.sink.received
        if now:
            dropped.append(rig.bench.cycle)
        return now

    rig.bench.drive(rig.dut.drop, drop)
    rig.bench.run(lambda: rig.complete == 3, 20_000, settle=3000)
    # The first is damaged on its way, the others are whole.
    assert rig.frames()[-1] == b"\x05\x06"
    assert rig.sequence == 1

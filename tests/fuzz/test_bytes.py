"""Bytes from outside: programs, frames of the bridge, descriptors in memory."""

from __future__ import annotations

import contextlib
import random

import numpy as np
from inputs import fuzzed, mutated, numbers

import fusemax
from fusemax.bridge.frame import Answer, Deframer, FrameError, Request, State, encode, parse_answer
from fusemax.compiler.program import Program
from fusemax.errors import ProgramError, RuleError
from fusemax.model.descriptor_check import is_valid
from fusemax.model.model_transport import ModelTransport
from fusemax.runtime.job_ring import JobRing
from fusemax.spec import CONFIGS, DESCRIPTOR, DESCRIPTOR_BYTES, Cause, Descriptor
from fusemax.spec.bridge import Command, StateFlag, Status

TINY = CONFIGS["tiny"]
PROGRAM = fusemax.compile("attention_1pass", head_dim=8, value_dim=8, config="tiny")
IMAGE = PROGRAM.to_bytes()
BYTES = (b"\0", b"\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", IMAGE[:4], IMAGE[:16])


@fuzzed
def test_programs(rng: random.Random) -> None:
    """Refused, or read; what was read runs, or breaks a rule that has a name."""
    if rng.random() < 0.5:
        with contextlib.suppress(ProgramError):
            Program.from_bytes(mutated(rng, IMAGE, BYTES), rng.choice(("tiny", "small")))
        return
    words = list(PROGRAM.microwords)
    for _ in range(rng.randrange(1, 4)):
        words[rng.randrange(len(words))] = rng.choice((next(numbers(rng, 32)), rng.choice(words), 0))
    program = Program(TINY, 8, 8, tuple(words), rng.random() < 0.1, rng.random() < 0.1)
    assert Program.from_bytes(program.to_bytes(), TINY).microwords == program.microwords
    with contextlib.suppress(RuleError):
        program.check()
    with contextlib.suppress(ProgramError):
        assert Program.from_listing(program.listing(), TINY).microwords == program.microwords


FRAMES = [
    Answer(Command.READ_MEMORY, 5, Status(0), bytes(range(40))).to_bytes(),
    State(3, 7, StateFlag(0), 1, 512, 4096, 4096, 8, 1 << 18).to_bytes(),
    Request(Command.WRITE_MEMORY, 9, 12, 64, bytes(12)).to_bytes(),
]


@fuzzed
def test_frames(rng: random.Random) -> None:
    """A stream with damage: sound frames or None; a sound frame may still say nonsense."""
    stream = mutated(rng, b"".join(rng.choices(FRAMES, k=3)), (b"\0", b"\x01", b"\xff", b"\0\0", *FRAMES))
    if rng.random() < 0.5:
        # A body of any content whose CRC is right.
        stream += encode(mutated(rng, rng.randbytes(rng.randrange(30)) + b"\x81\x05\0\0", BYTES))
    deframer, at = Deframer(), 0
    while at < len(stream):
        step = rng.choice((1, 3, 50, 1000))
        for body in deframer.feed(stream[at : at + step]):
            if body is not None:
                for read in (parse_answer, Request.from_body):
                    with contextlib.suppress(FrameError):
                        read(body)
        at += step


def job_of() -> Descriptor:
    """A job of a call, as the driver writes it."""
    jobs: list[Descriptor] = []
    x = np.ones((1, 9, 8), np.float32)
    with fusemax.open("model", "tiny", memory_bytes=MEMORY_BYTES) as device:
        put = device.driver.queue.ring.put
        device.driver.queue.ring.put = lambda job: jobs.append(job) or put(job)  # type: ignore[method-assign]
        fusemax.attention(x, x, x, device=device, causal=True)
        MEMORY[:] = device.transport.memory
    return jobs[0]


MEMORY_BYTES = 1 << 15
MEMORY = np.zeros(MEMORY_BYTES, np.uint8)
JOB = job_of()
WORK = ("heads", "batch", "groups", "large_groups", "group_tiles", "key_tiles", "group_iterations")


@fuzzed
def test_descriptors(rng: random.Random) -> None:
    """The model takes or refuses any of them; it stops by a fault of the machine, and works after a reset."""
    fields = DESCRIPTOR.unpack(JOB.pack())
    for name in rng.sample(sorted(fields), rng.randrange(1, 5)):
        bits = next(field.bits for field in DESCRIPTOR.fields if field.name == name)
        value = rng.choice((next(numbers(rng, bits)), fields[name] ^ 1 << rng.randrange(bits))) & (1 << bits) - 1
        signed = any(field.name == name and field.signed for field in DESCRIPTOR.fields)
        fields[name] = value - (1 << bits if signed and value >> bits - 1 else 0)
    image = bytearray(DESCRIPTOR.pack(fields).to_bytes(DESCRIPTOR_BYTES, "little"))
    if rng.random() < 0.2:
        image[rng.randrange(len(image))] ^= 1 << rng.randrange(8)
    job = Descriptor.unpack(int.from_bytes(image, "little"))
    if is_valid(TINY, job) and np.prod([float(getattr(job, name) or 1) for name in WORK]) > 1e3:
        return
    transport = ModelTransport(TINY, MEMORY_BYTES)
    transport.memory[:] = MEMORY
    ring = JobRing(transport, 4)
    ring.start()
    transport.memory[:DESCRIPTOR_BYTES] = np.frombuffer(bytes(image), np.uint8)
    ring.queued = 1
    ring.ring()
    with contextlib.suppress(TimeoutError):
        ring.wait(10, None)
    ring.collect()
    fault = ring.fault()
    assert fault is None or fault.cause in (
        Cause.DESCRIPTOR,
        Cause.PROGRAM,
        Cause.WINDOW,
        Cause.TIMEOUT,
        Cause.READ,
        Cause.WRITE,
    )
    ring.start()
    assert not ring.status()["error"]

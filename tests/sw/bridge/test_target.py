"""Memory and registers in pieces of any size."""

from __future__ import annotations

import random

import pytest
from bridge_model import BAUD, BridgeModel, Line

from fusemax.bridge import AccessError, Link, Target
from fusemax.bridge.frame import Request
from fusemax.spec.bridge import Command, Status


@pytest.fixture
def line() -> Line:
    return Line(BridgeModel(bytearray(4096)))


@pytest.fixture
def target(line: Line) -> Target:
    return Target(Link(line, baud=BAUD, clock=line.now, latency_s=0.001))


def test_memory_in_pieces(line: Line, target: Target) -> None:
    rng = random.Random(1)
    memory = bytearray(4096)
    for _ in range(40):
        size = rng.choice((0, 1, rng.randint(0, 64), rng.randint(0, 1000)))
        address = rng.randint(0, 4096 - size)
        memory[address : address + size] = text = rng.randbytes(size)
        target.write_memory(address, text)
        size = rng.randint(0, 300)
        address = rng.randint(0, 4096 - size)
        assert target.read_memory(address, size) == memory[address : address + size]
    assert line.bridge.memory == memory
    target.clear_memory(10, 3000)
    memory[10:3010] = bytes(3000)
    assert line.bridge.memory == memory


def test_pieces_end_at_multiples_of_the_longest_payload(line: Line, target: Target) -> None:
    target.write_memory(60, bytes(200))
    assert [(request.address, request.length) for request in line.bridge.executed] == [
        (60, 4),
        (64, 64),
        (128, 64),
        (192, 64),
        (256, 4),
    ]


def test_progress(target: Target) -> None:
    seen: list[tuple[int, int]] = []
    target.write_memory(0, bytes(150), lambda done, size: seen.append((done, size)))
    target.read_memory(32, 100, lambda done, size: seen.append((done, size)))
    assert seen == [(64, 150), (128, 150), (150, 150), (32, 100), (96, 100), (100, 100)]


def test_an_access_is_one_frame(line: Line, target: Target) -> None:
    target.link.connect()
    counts = target.link.counts
    before = counts.bytes_sent
    target.write_registers(0x10, [7])
    assert counts.bytes_sent - before == len(Request(Command.WRITE_REGISTERS, 0, 4, 0x10, bytes([7, 0, 0, 0])).to_bytes())
    before = counts.bytes_sent
    target.read_registers(0x10)
    assert counts.bytes_sent - before == len(Request(Command.READ_REGISTERS, 1, 4, 0x10).to_bytes())
    assert counts.polls == 0


def test_registers(line: Line, target: Target) -> None:
    target.write_registers(0x10, [1, 2, 0xFFFF_FFFF])
    target.write_registers(0x14, [5])
    assert target.read_registers(0x10, 3) == [1, 7, 0xFFFF_FFFF]
    assert target.read_registers(0x10) == [2]
    assert target.read_registers(0, 0) == []
    assert len(target.read_registers(0, 1024)) == 1024


def test_what_fails_is_told(line: Line, target: Target) -> None:
    with pytest.raises(AccessError, match="write memory of 6 bytes at 0x1000 is outside the bridge's address map") as failure:
        target.write_memory(4090, bytes(12))
    assert (failure.value.status, failure.value.address) == (Status.REFUSED, 4096)
    assert all(request.address < 4096 for request in line.bridge.executed)
    execute = line.bridge._execute
    line.bridge._execute = lambda request: type(execute(request))(request.command, request.sequence, Status.SLAVE_ERROR, b"")
    with pytest.raises(AccessError, match="read registers of 4 bytes at 0x8 was answered with SLVERR"):
        target.read_registers(8)
    line.bridge._execute = execute
    target.write_registers(8, [1])
    assert line.bridge.executed[-1].command == Command.WRITE_REGISTERS


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda target: target.read_registers(2), "offset must be a multiple of 4 from 0 to 4092, not 2"),
        (lambda target: target.read_registers(4096), "offset must be a multiple of 4 from 0 to 4092, not 4096"),
        (lambda target: target.read_registers(4092, 2), "count must be from 0 to 1 at offset 0xffc, not 2"),
        (lambda target: target.write_registers(0, [-1]), "value must be from 0 to 2\\^32 - 1, not -1"),
        (lambda target: target.read_memory(-1, 4), "address and size must be within 4 GiB, not -1 and 4"),
        (lambda target: target.clear_memory(1 << 32, 1), "within 4 GiB"),
    ],
)
def test_arguments_are_checked(target: Target, call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(target)


def test_reset_and_interrupt(line: Line, target: Target) -> None:
    target.write_memory(0, b"x")
    target.reset()
    assert line.bridge.resets == 1
    assert not target.interrupt
    line.bridge.irq = True
    assert target.interrupt

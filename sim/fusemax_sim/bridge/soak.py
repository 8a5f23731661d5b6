"""Long runs of the bridge: random requests under noise, and the share of the line that payload takes without."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass

import numpy as np

from fusemax.bridge import Counts, Link, Order, Target
from fusemax.bridge.frame import Answer
from fusemax.spec.bridge import Command, Status

from ..memory import Memory
from .stream import BridgeSimulation, Noise

__all__ = ["Soak", "Throughput", "measure_throughput", "soak"]

#: Requests of a burst, between whose bursts memory is compared.
BURST = 200
#: Registers of bridge_top.sv: kept, added to, counted when read.
KEPT, ADDED, COUNTED = 0x000, 0x400, 0x800
WORDS = 0xC00 // 4
LINE_NOISE = Noise(flip=2e-4, drop=1e-4, extra=1e-4)


@dataclass(frozen=True)
class Soak:
    """Outcome of :func:`soak`; ``passed`` if every frame was executed once and nothing is wrong.

    Members
    -------
    frames
        Requests executed.
    wrong_bytes
        Bytes of answers, and of memory after every burst, that are not as they should be.
    wrong_words
        Registers that are not as they should be.
    accesses_missing, accesses_repeated
        Words on the buses, fewer or more than the requests need.
    outside
        Requests outside the address map that were not refused.
    violations
        Broken rules of the buses.
    flips, drops, extras
        Noise.
    counts
        Of the link.
    cycles
        Simulated.
    """

    frames: int
    wrong_bytes: int
    wrong_words: int
    accesses_missing: int
    accesses_repeated: int
    outside: int
    violations: int
    flips: int
    drops: int
    extras: int
    counts: Counts
    cycles: int

    @property
    def passed(self) -> bool:
        wrong = (
            self.wrong_bytes,
            self.wrong_words,
            self.accesses_missing,
            self.accesses_repeated,
            self.outside,
            self.violations,
        )
        return not any(wrong)


class Mirror:
    """Random requests, and what memory, registers and buses must show for them."""

    def __init__(self, rng: random.Random, memory_bytes: int, bus_bytes: int, payload_bytes: int) -> None:
        self.rng, self.bus_bytes, self.payload_bytes = rng, bus_bytes, payload_bytes
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.words = np.zeros(WORDS, np.uint32)
        self.memory_words = {True: 0, False: 0}
        self.register_words = {True: 0, False: 0}
        self.wrong_bytes = self.outside = 0
        self.expected: list[tuple[Status, bytes]] = []

    def orders(self, count: int) -> list[Order]:
        """That many, which are as if executed."""
        return [self._order() for _ in range(count)]

    def _order(self) -> Order:
        rng, size = self.rng, self.memory.size
        command = rng.choices(list(KINDS), list(KINDS.values()))[0]
        of_memory = command in (Command.READ_MEMORY, Command.WRITE_MEMORY, Command.CLEAR_MEMORY)
        length = rng.choice((rng.randint(1, 16), rng.randint(1, self.payload_bytes), self.payload_bytes))
        address = rng.randrange(0, size - length + 1)
        if not of_memory:
            length = 4 * rng.choice((1, 1, 2, rng.randint(1, 16)))
            address = rng.choice((KEPT, ADDED, COUNTED)) + 4 * rng.randrange(0x100 - length // 4)
        text = rng.choice((bytes(length), rng.randbytes(length), bytes([rng.randrange(256)]) * length))
        if rng.random() < 0.02:
            return self._refused(command, of_memory, length, text)
        writes = command in (Command.WRITE_MEMORY, Command.CLEAR_MEMORY, Command.WRITE_REGISTERS)
        answer = b""
        if of_memory:
            self.memory_words[writes] += (address + length - 1) // self.bus_bytes - address // self.bus_bytes + 1
            if writes:
                written = text if command == Command.WRITE_MEMORY else bytes(length)
                self.memory[address : address + length] = np.frombuffer(written, np.uint8)
            else:
                answer = self.memory[address : address + length].tobytes()
        else:
            self.register_words[writes] += length // 4
            place = slice(address // 4, (address + length) // 4)
            if not writes:
                answer = self.words[place].tobytes()
                if address >= COUNTED:
                    self.words[place] += 1
            elif ADDED <= address < COUNTED:
                self.words[place] += np.frombuffer(text, np.uint32)
            else:
                self.words[place] = np.frombuffer(text, np.uint32)
        self.expected.append((Status.OKAY, answer))
        return Order(command, address, length, text if command & 1 else b"")

    def _refused(self, command: Command, of_memory: bool, length: int, text: bytes) -> Order:
        """Something that reaches outside the map."""
        self.expected.append((Status.REFUSED, b""))
        size = self.memory.size if of_memory else 4096
        address = self.rng.choice((size - length + 1, size, (1 << 32) - length, (1 << 32) - 4))
        return Order(command, address, length, text if command & 1 else b"")

    def hear(self, order: Order, answer: Answer) -> None:
        """Compare an answer with what is due."""
        status, payload = self.expected.pop(0)
        self.outside += status == Status.REFUSED != answer.status
        wrong = sum(one != other for one, other in zip(answer.payload, payload, strict=False))
        self.wrong_bytes += wrong + abs(len(answer.payload) - len(payload)) + (status != answer.status)


KINDS = {
    Command.WRITE_MEMORY: 6,
    Command.READ_MEMORY: 6,
    Command.CLEAR_MEMORY: 1,
    Command.READ_REGISTERS: 3,
    Command.WRITE_REGISTERS: 3,
}


def soak(
    frames: int = 10_000,
    *,
    seed: int = 0,
    noise: Noise = LINE_NOISE,
    timing: Memory | None = None,
    config: str = "small",
    divisor: int = 4,
    payload_bytes: int = 512,
) -> Soak:
    """Random requests, with noise in both directions and random stalls of the memory, compared with what they must do.

    Raises
    ------
    LinkError
        If the bridge hangs.
    """
    timing = Memory(read_latency_cycles=20, stall_probability=0.2, seed=seed) if timing is None else timing
    rng = random.Random(seed)
    simulation = BridgeSimulation(
        config,
        divisor=divisor,
        payload_bytes=payload_bytes,
        timing=timing,
        noise=Noise(noise.flip, noise.drop, noise.extra, seed),
    )
    with simulation:
        link = Link(simulation, baud=simulation.baud, clock=simulation.now, latency_s=1e-5)
        state = link.connect()
        mirror = Mirror(rng, state.memory_bytes, state.bus_bytes, state.payload_bytes)
        wrong_bytes = 0
        for start in range(0, frames, BURST):
            link.exchange(mirror.orders(min(BURST, frames - start)), mirror.hear)
            wrong_bytes += int(np.count_nonzero(simulation.memory != mirror.memory))
        seen = simulation.seen
        simulation.silence()
        counts = Counts(**asdict(link.counts))
        words = Target(link).read_registers(0, WORDS)
        difference = [
            actual - expected
            for actual, expected in (
                (seen.memory_reads, mirror.memory_words[False]),
                (seen.memory_writes, mirror.memory_words[True]),
                (seen.register_reads, mirror.register_words[False]),
                (seen.register_writes, mirror.register_words[True]),
            )
        ]
        return Soak(
            frames=counts.answers,
            wrong_bytes=wrong_bytes + mirror.wrong_bytes + abs(counts.answers - frames),
            wrong_words=int(np.count_nonzero(np.array(words, np.uint32) != mirror.words)),
            accesses_missing=-sum(min(each, 0) for each in difference),
            accesses_repeated=sum(max(each, 0) for each in difference),
            outside=mirror.outside,
            violations=simulation.seen.violations,
            flips=seen.flips,
            drops=seen.drops,
            extras=seen.extras,
            counts=counts,
            cycles=simulation.cycle,
        )


@dataclass(frozen=True)
class Throughput:
    """Share of the line that payload takes without noise: payload bytes times 10 times clocks per bit, over cycles."""

    write: float
    read: float


def measure_throughput(
    size: int = 1 << 16, *, config: str = "small", divisor: int = 4, timing: Memory | None = None
) -> Throughput:
    """Write and read memory in bursts.

    Raises
    ------
    AssertionError
        If what is read is not what was written.
    """
    with BridgeSimulation(config, divisor=divisor, timing=timing) as simulation:
        target = Target(Link(simulation, baud=simulation.baud, clock=simulation.now, latency_s=1e-5))
        target.link.connect()
        text = random.Random(1).randbytes(size)
        shares = []
        for transfer in (lambda: target.write_memory(0, text), lambda: target.read_memory(0, size)):
            begin = simulation.cycle
            result = transfer()
            shares.append(size * 10 * divisor / (simulation.cycle - begin))
            assert result in (None, text)
        return Throughput(*shares)

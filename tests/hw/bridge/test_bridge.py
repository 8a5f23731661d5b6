"""The whole bridge, pins on one side and buses on the other, with the real host code at the other end of the line."""

import random

import pytest
from amaranth.hdl import Cat, Module, Signal
from amaranth.sim import Simulator
from bench import Bench

from fusemax.bridge import Link, LinkTimeoutError, Order, Target
from fusemax.bridge.frame import Deframer, Request, State, decode, parse_answer
from fusemax.spec import Config
from fusemax.spec.bridge import NO_REPLAY, Command, StateFlag, Status
from fusemax_hw.bridge.bridge import RESET_CYCLES, Bridge

DIVISOR = 4
MEMORY_BYTES = 1024
HZ = 1e6


class Memory:
    """Takes words with stalls, of each channel by itself; counts every byte written and every word read."""

    def __init__(self, bench, bus, bus_bytes, size):
        self.bytes, self.bus_bytes = bytearray(size), bus_bytes
        self.reads = self.writes = 0
        self.response = 0
        self._addresses, self._words = [], []
        self.read = bench.source(bus.r, (), bench.stalls())
        self.written = bench.source(bus.b, (), bench.stalls())
        self.sinks = [
            bench.sink(bus.ar, bench.stalls(), self._read),
            bench.sink(bus.aw, bench.stalls(), self._addresses.append),
            bench.sink(bus.w, bench.stalls(), self._words.append),
        ]
        bench.each(self._write)

    def _read(self, burst):
        address = burst["address"]
        assert burst["length"] == 0 and address % self.bus_bytes == 0 and address < len(self.bytes)
        self.reads += 1
        word = int.from_bytes(self.bytes[address : address + self.bus_bytes], "little")
        self.read.items.append({"data": word, "response": self.response, "last": 1})

    def _write(self):
        if self._addresses and self._words:
            burst, word = self._addresses.pop(0), self._words.pop(0)
            address = burst["address"]
            assert burst["length"] == 0 and word["last"] and address % self.bus_bytes == 0 and address < len(self.bytes)
            self.writes += 1
            for lane in range(self.bus_bytes):
                if word["strobe"] >> lane & 1:
                    self.bytes[address + lane] = word["data"] >> 8 * lane & 0xFF
            self.written.items.append(self.response)


class Registers:
    """Words that a write adds to and a read adds one to afterwards."""

    def __init__(self, bench, bus):
        self.words = [0] * 1024
        self.response = 0
        self.hangs = False
        self._addresses, self._words = [], []
        self.read = bench.source(bus.r, (), bench.stalls())
        self.written = bench.source(bus.b, (), bench.stalls())
        stalls = [bench.stalls() for _ in range(3)]
        self.sinks = [
            bench.sink(bus.ar, lambda: not self.hangs and stalls[0](), self._read),
            bench.sink(bus.aw, stalls[1], self._addresses.append),
            bench.sink(bus.w, stalls[2], self._words.append),
        ]
        bench.each(self._write)

    def _read(self, address):
        assert address % 4 == 0
        self.read.items.append({"data": self.words[address // 4], "response": self.response})
        self.words[address // 4] = (self.words[address // 4] + 1) & 0xFFFF_FFFF

    def _write(self):
        if self._addresses and self._words:
            address, word = self._addresses.pop(0), self._words.pop(0)
            assert address % 4 == 0 and word["strobe"] == 0b1111
            self.words[address // 4] = (self.words[address // 4] + word["data"]) & 0xFFFF_FFFF
            self.written.items.append(self.response)


class System:
    """Byte stream to a simulated bridge; simulated time passes while the host waits.

    ``noise`` is the chance per byte, in each direction, of a flipped bit, a lost byte and a random one before it.
    """

    def __init__(self, seed=0, noise=0.0, bus_bits=64, **sizes):
        config = Config(name="bridge", rows=2, columns=2, bus_bits=bus_bits, address_bits=20)
        sizes = {"payload_bytes": 64, "receive_bytes": 256, "send_bytes": 256} | sizes
        self.dut = Bridge(config, divisor=DIVISOR, memory_bytes=MEMORY_BYTES, **sizes)
        self.bench = bench = Bench(self.dut, seed)
        self.rng, self.noise = random.Random(seed), noise
        self.irq = False
        self.resets = 0
        self.timeout = 0.0
        self._to_bridge, self._levels, self._received = bytearray(), [], bytearray()
        self._bits, self._before, self._cycles = [], 1, 0
        bench.drive(self.dut.rx, self._drive)
        bench.drive(self.dut.irq, lambda: self.irq)
        bench.watch(self.dut.tx, self._watch)
        bench.watch(self.dut.reset, self._reset)
        self.memory = Memory(bench, self.dut.memory, config.bus_bytes, MEMORY_BYTES)
        self.registers = Registers(bench, self.dut.registers)
        # One signal to set and one to look at in a cycle: the simulator is quicker that way.
        m = Module()
        m.submodules.dut = self.dut
        inputs, outputs = (Cat(signal for signal, _ in ends) for ends in (bench._drivers, bench._watchers))
        self._inputs, self._outputs = Signal(len(inputs)), Signal(len(outputs))
        m.d.comb += [inputs.eq(self._inputs), self._outputs.eq(outputs)]
        self.simulator = Simulator(m)
        self.simulator.add_clock(1 / HZ)
        self.simulator.add_testbench(self._testbench, background=True)
        self.link = Link(self, baud=HZ / DIVISOR, clock=self.now, latency_s=100 / HZ)
        self.target = Target(self.link)

    # -- byte stream
    @property
    def in_waiting(self):
        return len(self._received)

    def now(self):
        return self.bench.cycle / HZ

    def write(self, text):
        self._to_bridge += self._damage(text)

    def read(self, size=1):
        end = self.now() + self.timeout
        while not self._received and self.now() < end:
            # Until a frame is complete, or for a while.
            self.run(200)
        text = bytes(self._received[:size])
        del self._received[:size]
        return text

    def run(self, cycles):
        end = self.bench.cycle + cycles
        while self.bench.cycle < end:
            self.simulator.advance()

    def _damage(self, text):
        result = bytearray()
        for byte in text:
            if self.rng.random() < self.noise:
                result.append(self.rng.randrange(256))
            if self.rng.random() < self.noise:
                byte ^= 1 << self.rng.randrange(8)
            if self.rng.random() >= self.noise:
                result.append(byte)
        return result

    # -- pins
    def _drive(self):
        if not self._levels and self._to_bridge:
            byte = self._to_bridge.pop(0)
            bits = (0, *(byte >> index & 1 for index in range(8)), 1)
            self._levels = [bit for bit in bits for _ in range(DIVISOR)][::-1]
        return self._levels.pop() if self._levels else 1

    def _watch(self, level):
        if not self._bits and not (self._before and not level):
            self._before = level
            return
        self._before = level
        self._bits.append(level)
        if len(self._bits) == 10 * DIVISOR - 1:
            bits = self._bits[DIVISOR // 2 :: DIVISOR]
            self._received += self._damage(bytes([sum(bit << index for index, bit in enumerate(bits[1:9]))]))
            self._bits, self._before = [], 1

    def _reset(self, reset):
        if reset:
            self.resets += 1
            for bus in (self.memory, self.registers):
                for sink in bus.sinks:
                    sink.forget()
                for source in (bus.read, bus.written):
                    source.items.clear()
                    source._valid = False

    async def _testbench(self, ctx):
        bench = self.bench
        drivers = [(len(signal), value) for signal, value in bench._drivers]
        watchers = [(len(signal), (1 << len(signal)) - 1, see) for signal, see in bench._watchers]
        while True:
            for act in bench._acts:
                act()
            bits = offset = 0
            for width, value in drivers:
                bits |= (value() & (1 << width) - 1) << offset
                offset += width
            ctx.set(self._inputs, bits)
            bits = ctx.get(self._outputs)
            for width, mask, see in watchers:
                see(bits & mask)
                bits >>= width
            await ctx.tick()
            bench.cycle += 1


def random_orders(rng, count, memory, words):
    """Requests, and what they answer; ``memory`` and ``words`` become what they must be in the end."""
    orders, expected = [], []
    for _ in range(count):
        command = rng.choice([command for command in Command if not command & Command.POLL])
        length = rng.choice((1, 7, 8, 9, rng.randint(1, 24)))
        address = rng.randrange(MEMORY_BYTES - length + 1)
        if command & 0x20:
            length, address = 4 * rng.randint(1, 3), 4 * rng.randrange(1000)
        payload = rng.randbytes(length) if command & 1 else b""
        answer = b""
        if command == Command.READ_MEMORY:
            answer = bytes(memory[address : address + length])
        elif command in (Command.WRITE_MEMORY, Command.CLEAR_MEMORY):
            memory[address : address + length] = payload or bytes(length)
        else:
            for place in range(address // 4, (address + length) // 4):
                if command == Command.READ_REGISTERS:
                    answer += words[place].to_bytes(4, "little")
                    words[place] = (words[place] + 1) & 0xFFFF_FFFF
                else:
                    start = 4 * place - address
                    words[place] = (words[place] + int.from_bytes(payload[start : start + 4], "little")) & 0xFFFF_FFFF
        orders.append(Order(command, address, length, payload))
        expected.append((Status.OKAY, answer))
    return orders, expected


@pytest.mark.parametrize(("seed", "noise", "bus_bits"), [(1, 0.0, 128), (3, 0.002, 32)])
def test_requests_are_executed_once(seed, noise, bus_bits):
    system = System(seed, noise, bus_bits)
    memory, words = bytearray(MEMORY_BYTES), [0] * 1024
    orders, expected = random_orders(random.Random(seed), 10, memory, words)
    answers = []
    system.link.exchange(orders, lambda order, answer: answers.append((answer.status, answer.payload)))
    assert answers == expected
    assert system.memory.bytes == memory
    assert system.registers.words == words
    counts = system.link.counts
    assert bool(counts.repeated_requests + counts.polls) == bool(noise)
    # A word on the bus for each that the requests touch, and no other.
    lane = bus_bits // 8
    touched = {True: 0, False: 0}
    for order in orders:
        if order.command & 0x10:
            last = order.address + order.length - 1
            touched[order.command == Command.READ_MEMORY] += last // lane - order.address // lane + 1
    assert (system.memory.reads, system.memory.writes) == (touched[True], touched[False])


def test_repetitions_and_gaps_are_not_executed():
    """By hand what the host does not do on its own: requests twice, too early, spoilt."""
    system = System(10)
    first = system.link.connect().sequence

    def say(number, text=b"\x01\0\0\0"):
        request = Request(Command.WRITE_REGISTERS, (first + number) % 256, 4, 4 * number, text).to_bytes()
        system.write(request)
        return request

    def heard():
        system.run(10 * DIVISOR * len(system._to_bridge) + 2000)
        bodies = [parse_answer(body) for body in Deframer().feed(bytes(system._received))]
        system._received.clear()
        return [
            ("missing" if body.flags & StateFlag.MISSING else "state", (body.sequence - first) % 256)
            if isinstance(body, State)
            else ("answer", (body.sequence - first) % 256)
            for body in bodies
        ]

    say(0)
    assert heard() == [("answer", 0)]
    say(0)
    assert heard() == []
    say(2)
    say(3)
    # Told once for a gap.
    assert heard() == [("missing", 1)]
    say(1)
    say(0)
    say(1)
    assert heard() == [("answer", 1)]
    say(3)
    assert heard() == [("missing", 2)]
    # A spoilt frame is told as such; after it the line is silent.
    system.write(say(2)[:5] + b"\0")
    assert heard() == [("answer", 2), ("missing", 3)]
    assert heard() == []
    # Half of the numbers are behind, half ahead.
    say(128 + 3)
    assert heard() == []
    say(127 + 3)
    assert heard() == []
    say(3)
    assert heard() == [("answer", 3)]
    say(127 + 4)
    assert heard() == [("missing", 4)]
    assert system.registers.words[:5] == [1, 1, 1, 1, 0]
    # Answers that are kept come again, and only those.
    system.write(Request(Command.POLL, 99, 0, (first + 2) % 256).to_bytes())
    assert sorted(heard()) == [("answer", 2), ("answer", 3), ("state", 4)]
    system.write(Request(Command.POLL, 99, 0, (first - 20) % 256).to_bytes())
    system.write(Request(Command.POLL, 99, 0, NO_REPLAY).to_bytes())
    assert heard() == [("state", 4), ("state", 4)]


def test_nothing_outside_the_map_is_touched():
    system = System(5)
    refused = [
        (Command.WRITE_MEMORY, MEMORY_BYTES - 3, 4),
        (Command.READ_MEMORY, MEMORY_BYTES, 1),
        (Command.CLEAR_MEMORY, 0, MEMORY_BYTES + 1),
        (Command.READ_MEMORY, 0xFFFF_FFFF, 2),
        (Command.WRITE_MEMORY, 0xFFFF_FFFC, 4),
        (Command.READ_MEMORY, 0, 65),
        (Command.READ_MEMORY, 0, 0),
        (Command.WRITE_MEMORY, 0, 0),
        (Command.READ_REGISTERS, 4096, 4),
        (Command.READ_REGISTERS, 4092, 8),
        (Command.WRITE_REGISTERS, 0x1_0000_0000 - 4, 4),
        (Command.WRITE_REGISTERS, 2, 4),
        (Command.READ_REGISTERS, 0, 6),
        (0x14, 0, 4),
        (0x30, 0, 4),
        (0x22, 0, 4),
        (0x00, 0, 4),
    ]
    orders = [Order(command, address, length, bytes(length) if command & 1 else b"") for command, address, length in refused]
    statuses = []
    numbers = iter(range(system.link.connect().sequence, 256))
    for order in orders:
        # By hand: commands that the host code does not have come back as they were sent.
        system.write(Request(order.command, next(numbers), order.length, order.address, order.payload).to_bytes())
    system.run(900 * len(orders))
    for frame in bytes(system._received).split(b"\0")[:-1]:
        body = decode(frame)
        statuses.append((body[0] & 0x7F, body[-1], len(body)))
    assert statuses == [(command, Status.REFUSED, 5) for command, _, _ in refused]
    assert (system.memory.reads, system.memory.writes) == (0, 0)
    assert not any(system.registers.words)
    system._received.clear()
    system.link.connect()
    assert system.target.read_memory(MEMORY_BYTES - 1, 1) == b"\0"
    assert system.memory.reads == 1


def test_errors_of_the_buses_come_back():
    system = System(6)
    answers = []
    for response, status in ((2, Status.SLAVE_ERROR), (3, Status.DECODE_ERROR)):
        system.memory.response = system.registers.response = response
        orders = [
            Order(Command.READ_MEMORY, 4, 20),
            Order(Command.WRITE_MEMORY, 4, 8, b"abcdefgh"),
            Order(Command.READ_REGISTERS, 8, 8),
            Order(Command.WRITE_REGISTERS, 8, 4, bytes(4)),
        ]
        answers.clear()
        system.link.exchange(orders, lambda order, answer: answers.append((answer.status, len(answer.payload))))
        assert answers == [(status, 20), (status, 0), (status, 8), (status, 0)]
    system.memory.response = system.registers.response = 0
    assert system.target.read_memory(4, 8) == b"abcdefgh"


def test_interrupt():
    system = System(7)
    system.link.connect()
    assert not system.link.listen(2000 / HZ)
    system.irq = True
    assert system.link.listen(2000 / HZ)
    # Told once; asked, it is told again.
    assert bytes(system._received) == b""
    system.run(3000)
    assert bytes(system._received) == b""
    assert system.target.interrupt
    system.irq = False
    assert not system.target.interrupt
    system.irq = True
    assert system.link.listen(2000 / HZ)


def test_reset_frees_a_bus_that_does_not_answer():
    system = System(8)
    system.target.write_memory(0, b"before")
    system.registers.hangs = True
    system.link.clock = lambda: 80 * system.now()  # Give up sooner.
    with pytest.raises(LinkTimeoutError):
        system.target.read_registers(0)
    system.link.clock = system.now
    system.registers.hangs = False
    assert system.target.reset().flags & StateFlag.FRESH
    assert system.resets == RESET_CYCLES
    assert system.target.read_registers(16, 2) == [0, 0]
    assert system.target.read_memory(0, 6) == b"before"
    # Reset again: something was executed; and again: nothing was.
    system.target.reset()
    system.target.reset()
    assert system.resets == 2 * RESET_CYCLES


def test_garbage_does_not_wedge_it():
    system = System(9)
    rng = random.Random(9)
    for garbage in (rng.randbytes(80), bytes(80) + b"\xff" * 80, b"\x01\x00" * 20 + b"\x02\x42\x00" * 20):
        system.write(garbage)
        text = rng.randbytes(9)
        system.target.write_memory(100, text)
        assert system.target.read_memory(100, 9) == text
    assert system.memory.writes == 3 * 2
    assert system.resets == 0


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"divisor": 2}, ValueError, "divisor must be from 4 to 65536, not 2"),
        ({"memory_bytes": 1001}, ValueError, "memory_bytes must be a multiple of 8 from 8 to 1048576, not 1001"),
        ({"memory_bytes": 1 << 21}, ValueError, "memory_bytes must be a multiple of 8 from 8 to 1048576, not 2097152"),
        ({"memory_bytes": 1e3}, TypeError, "memory_bytes must be an integer, not 1000.0"),
        ({"payload_bytes": 100}, ValueError, "payload_bytes must be a power of two from 64 to 2048, not 100"),
        ({"payload_bytes": "64"}, TypeError, "payload_bytes must be an integer, not '64'"),
        ({"receive_bytes": 512}, ValueError, "receive_bytes must be a power of two from 1024 to 65536, not 512"),
        ({"send_bytes": 3000}, ValueError, "send_bytes must be a power of two from 1024 to 65536, not 3000"),
    ],
)
def test_parameters_are_checked(parameters, error, message):
    config = Config(name="bridge", rows=2, columns=2, bus_bits=64, address_bits=20)
    with pytest.raises(error, match=message):
        Bridge(config, **{"divisor": 4, "memory_bytes": 1024} | parameters)

"""What the tests of blocks with handshakes share: stream drivers with random stalls that check the stream rules.

A :class:`Bench` sets all inputs of a cycle at once, lets the block settle, looks at all outputs at once, and only then
moves on. An input can therefore depend on what was seen in earlier cycles only, as in a synchronous circuit whose outputs
are registers.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from amaranth.hdl import Cat, Const, Shape, Value
from amaranth.lib import data
from amaranth.sim import Simulator

__all__ = ["Bench", "Sink", "Source", "Stalls", "pack", "unpack"]


def pack(shape: Any, value: Any) -> int:
    """Bits of ``value``; of a layout, the value is a mapping or a sequence of what its fields take."""
    if isinstance(shape, data.Layout):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        return sum(pack(shape[name].shape, field) << shape[name].offset for name, field in items)
    return int(getattr(value, "value", value)) & (1 << Shape.cast(shape).width) - 1


def unpack(shape: Any, bits: int) -> Any:
    """Value of ``bits``: of a structure a dictionary, of an array a list, otherwise an integer."""
    if isinstance(shape, data.ArrayLayout):
        return [unpack(field.shape, bits >> field.offset) for _, field in shape]
    if isinstance(shape, data.Layout):
        return {name: unpack(field.shape, bits >> field.offset) for name, field in shape}
    plain = Shape.cast(shape)
    return Const(bits & (1 << plain.width) - 1, plain).value


class Stalls:
    """Whether to go on, cycle by cycle: spells of rare, frequent and no stalls."""

    def __init__(self, rng: random.Random, paces: tuple[float, ...] = (0.1, 0.5, 0.9, 1.0), spell: int = 30):
        self._rng, self._paces, self._spell = rng, paces, spell
        self._left, self._pace = 0, 1.0

    def __call__(self) -> bool:
        if not self._left:
            self._left, self._pace = self._rng.randint(1, self._spell), self._rng.choice(self._paces)
        self._left -= 1
        return self._rng.random() < self._pace


def always() -> bool:
    return True


class Source:
    """Gives ``items`` to a stream, in order; ``taken`` are the cycles in which they went."""

    def __init__(self, bench: "Bench", stream: Any, items: Iterable[Any], go: Callable[[], bool]):
        self._bench, self._shape, self._go = bench, stream.payload.shape(), go
        self.items = deque(items)
        self.taken: list[int] = []
        self._valid = False
        bench.drive(stream.valid, self._drive_valid)
        bench.drive(stream.payload, self._drive_payload)
        bench.watch(stream.ready, self._see_ready)

    def _drive_valid(self) -> int:
        self._valid = bool(self.items) and (self._valid or self._go())
        return self._valid

    def _drive_payload(self) -> int:
        # Nobody may look at the payload of a stream that is not valid.
        width = Shape.cast(self._shape).width
        return pack(self._shape, self.items[0]) if self._valid else self._bench.rng.getrandbits(width) if width else 0

    def _see_ready(self, ready: int) -> None:
        if self._valid and ready:
            self.items.popleft()
            self.taken.append(self._bench.cycle)
            self._valid = False


class Sink:
    """Takes what a stream gives; fails if an offer is withdrawn or changed before it was taken."""

    def __init__(self, bench: "Bench", stream: Any, go: Callable[[], bool], see: Callable[[Any], None] | None):
        self._bench, self._shape, self._go, self._see = bench, stream.payload.shape(), go, see
        self.received: list[Any] = []
        self.taken: list[int] = []
        self._offer: int | None = None
        self._ready = False
        self._valid = 0
        bench.drive(stream.ready, self._drive_ready)
        bench.watch(stream.valid, self._see_valid)
        bench.watch(stream.payload, self._see_payload)

    def forget(self) -> None:
        """The offer, if any, may be withdrawn: whoever makes it starts anew."""
        self._offer = None

    def _drive_ready(self) -> int:
        self._ready = self._go()
        return self._ready

    def _see_valid(self, valid: int) -> None:
        self._valid = valid
        assert valid or self._offer is None, f"cycle {self._bench.cycle}: an offer was withdrawn"

    def _see_payload(self, payload: int) -> None:
        if not self._valid:
            return
        if self._offer is not None:
            before, now = unpack(self._shape, self._offer), unpack(self._shape, payload)
            assert before == now, f"cycle {self._bench.cycle}: an offer has changed from {before} to {now}"
        self._offer = None if self._ready else payload
        if self._ready:
            item = unpack(self._shape, payload)
            self.received.append(item)
            self.taken.append(self._bench.cycle)
            if self._see is not None:
                self._see(item)


class Bench:
    """A block, its drivers and its watchers.

    Members
    -------
    rng : random.Random
        For everything that is random in the test.
    cycle : int
        Number of the cycle, from 0.
    """

    def __init__(self, dut: Any, seed: int):
        self.dut, self.rng, self.cycle = dut, random.Random(seed), 0
        self._acts: list[Callable[[], None]] = []
        self._drivers: list[tuple[Value, Callable[[], int]]] = []
        self._watchers: list[tuple[Value, Callable[[int], None]]] = []

    def each(self, act: Callable[[], None]) -> None:
        """Call ``act`` at the begin of every cycle."""
        self._acts.append(act)

    def stalls(self, *paces: float) -> Stalls:
        return Stalls(self.rng, paces) if paces else Stalls(self.rng)

    def drive(self, signal: Any, value: Callable[[], int]) -> None:
        """Set ``signal`` to what ``value`` returns, in every cycle."""
        self._drivers.append((Value.cast(signal), value))

    def watch(self, signal: Any, see: Callable[[int], None]) -> None:
        """Tell ``see`` the bits of ``signal``, in every cycle, behind the watchers that were there before."""
        self._watchers.append((Value.cast(signal).as_unsigned(), see))

    def pulse(self, signal: Any) -> Callable[[], None]:
        """A function that sets the one-bit ``signal`` in the next cycle that has none yet."""
        waiting = 0

        def more() -> None:
            nonlocal waiting
            waiting += 1

        def value() -> int:
            nonlocal waiting
            now = min(waiting, 1)
            waiting -= now
            return now

        self.drive(signal, value)
        return more

    def source(self, stream: Any, items: Iterable[Any] = (), go: Callable[[], bool] = always) -> Source:
        return Source(self, stream, items, go)

    def sink(self, stream: Any, go: Callable[[], bool] = always, see: Callable[[Any], None] | None = None) -> Sink:
        return Sink(self, stream, go, see)

    def run(self, done: Callable[[], bool], limit: int, settle: int = 0) -> None:
        """Simulate until ``done``, and ``settle`` cycles more; fails if that takes more than ``limit`` cycles."""
        inputs, outputs = Cat(signal for signal, _ in self._drivers), Cat(signal for signal, _ in self._watchers)
        drivers = [(len(signal), value) for signal, value in self._drivers]
        watchers = [(len(signal), (1 << len(signal)) - 1, see) for signal, see in self._watchers]

        async def testbench(ctx: Any) -> None:
            left = settle
            while left >= 0:
                for act in self._acts:
                    act()
                bits = offset = 0
                for width, value in drivers:
                    bits |= (value() & (1 << width) - 1) << offset
                    offset += width
                ctx.set(inputs, bits)
                bits = ctx.get(outputs)
                for width, mask, see in watchers:
                    see(bits & mask)
                    bits >>= width
                await ctx.tick()
                self.cycle += 1
                assert self.cycle < limit, f"not done after {limit} cycles"
                if done():
                    left -= 1

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(testbench)
        simulator.run()

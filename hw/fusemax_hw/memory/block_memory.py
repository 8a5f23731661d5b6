"""AXI4 memory in block RAM, shared by several masters."""

from collections.abc import Sequence
from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from amaranth.utils import exact_log2

from fusemax.spec import PAGE_BYTES, Config

from ..bus.axi import Axi4Master

__all__ = ["BlockMemory"]

OKAY, DECERR = 0, 3


def first_of(requests: Sequence[Any]) -> Value:
    """Number of the first request that is high."""
    number: Any = len(requests) - 1
    for index in reversed(range(len(requests) - 1)):
        number = Mux(requests[index], index, number)
    return number


class BlockMemory(wiring.Component):
    """Hold AXI4 memory in block RAM, for several masters.

    There is a RAM for every byte of a bus word. Reads and writes are independent, one burst of each at a time; of masters that
    wait the first one is served. A word comes or goes in every cycle of a burst; a read burst's first word comes three cycles
    after its address. A burst behind the memory is answered with DECERR and writes nothing. What is in memory stays through a
    reset.

    Parameters
    ----------
    config : Config
        Widths of the bus.
    memory_bytes : int
        Size, from address 0 on; a multiple of 4096.
    masters : int
        Number of ports.

    Members
    -------
    ports : In(Axi4Master(config)).array(masters)
        A bus for every master; the first one has precedence.

    Raises
    ------
    TypeError, ValueError
        If ``memory_bytes`` is not as above.
    """

    def __init__(self, config: Config, memory_bytes: int, masters: int = 2):
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        if not 0 < memory_bytes <= 1 << config.address_bits or memory_bytes % PAGE_BYTES:
            rule = f"a multiple of {PAGE_BYTES} from {PAGE_BYTES} to 2^{config.address_bits}"
            raise ValueError(f"memory_bytes must be {rule}, not {memory_bytes!r}")
        self.config = config
        self._memory_bytes = memory_bytes
        super().__init__({"ports": In(Axi4Master(config)).array(masters)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bus_bytes, words = self.config.bus_bytes, self._memory_bytes // self.config.bus_bytes
        lane_bits = exact_log2(bus_bytes)
        ports = [self.ports[index] for index in range(len(self.ports))]
        reads, writes = [], []
        for lane in range(bus_bytes):
            m.submodules[f"lane_{lane}"] = memory = Memory(shape=8, depth=words, init=[])
            reads.append(memory.read_port())
            writes.append(memory.write_port())
        place_bits = len(reads[0].addr)

        def begin(channel: str, idle: Any, owner: Signal, place: Signal, left: Signal, outside: Signal) -> Signal:
            """Take the address of the first master that offers one."""
            offers = [getattr(port, channel) for port in ports]
            number = Signal(range(len(ports)), name=f"{channel}_number")
            taken = Signal(name=f"{channel}_taken")
            address = Array(offer.payload.address for offer in offers)[number]
            m.d.comb += [
                number.eq(first_of([offer.valid for offer in offers])),
                taken.eq(idle & Cat(offer.valid for offer in offers).any()),
            ]
            for index, offer in enumerate(offers):
                m.d.comb += offer.ready.eq(idle & (number == index))
            with m.If(taken):
                m.d.sync += [
                    owner.eq(number),
                    place.eq(address[lane_bits:]),
                    left.eq(Array(offer.payload.length for offer in offers)[number]),
                    outside.eq(address >= self._memory_bytes),
                ]
            return taken

        # Reads: a word is asked for, comes out of the RAM, and is offered. All move on together, when there is room.
        reading, read_owner, read_left, read_outside = Signal(), Signal(range(len(ports))), Signal(8), Signal()
        read_place = Signal(place_bits)
        fetched, fetched_last = Signal(), Signal()
        offered, last, response = Signal(), Signal(), Signal(2)
        word = Signal(self.config.bus_bits)
        advance = Signal()
        read_idle = ~reading & ~fetched & ~offered
        begun = begin("ar", read_idle, read_owner, read_place, read_left, read_outside)
        m.d.comb += advance.eq(~offered | Array(port.r.ready for port in ports)[read_owner])
        with m.If(begun):
            m.d.sync += reading.eq(1)
        with m.Elif(advance & reading):
            m.d.sync += [read_place.eq(read_place + 1), read_left.eq(read_left - 1), reading.eq(read_left != 0)]
        with m.If(advance):
            m.d.sync += [
                fetched.eq(reading),
                fetched_last.eq(read_left == 0),
                offered.eq(fetched),
                last.eq(fetched_last),
                response.eq(Mux(read_outside, DECERR, OKAY)),
            ]
        for lane, read in enumerate(reads):
            m.d.comb += [read.addr.eq(read_place), read.en.eq(advance)]
            with m.If(advance):
                m.d.sync += word.word_select(lane, 8).eq(read.data)
        for index, port in enumerate(ports):
            m.d.comb += [
                port.r.valid.eq(offered & (read_owner == index)),
                port.r.payload.data.eq(word),
                port.r.payload.last.eq(last),
                port.r.payload.response.eq(response),
            ]

        # Writes: a word is taken, and is in the RAM two cycles later; the answer is not before that.
        writing, write_owner, write_left, write_outside = Signal(), Signal(range(len(ports))), Signal(8), Signal()
        write_place, answered, taken = Signal(place_bits), Signal(), Signal()
        begun = begin("aw", ~writing & ~answered, write_owner, write_place, write_left, write_outside)
        given = Array(port.w.payload for port in ports)[write_owner]
        m.d.comb += taken.eq(writing & Array(port.w.valid for port in ports)[write_owner])
        with m.If(begun):
            m.d.sync += writing.eq(1)
        with m.If(taken):
            m.d.sync += [write_place.eq(write_place + 1), write_left.eq(write_left - 1)]
            with m.If(write_left == 0):
                m.d.sync += [writing.eq(0), answered.eq(1)]
        with m.If(answered & Array(port.b.ready for port in ports)[write_owner]):
            m.d.sync += answered.eq(0)
        stored, strobe, stored_place = Signal(self.config.bus_bits), Signal(bus_bytes), Signal(place_bits)
        m.d.sync += [
            stored.eq(given.data),
            strobe.eq(Mux(taken & ~write_outside, given.strobe, 0)),
            stored_place.eq(write_place),
        ]
        for lane, write in enumerate(writes):
            m.d.comb += [
                write.addr.eq(stored_place),
                write.data.eq(stored.word_select(lane, 8)),
                write.en.eq(strobe[lane]),
            ]
        for index, port in enumerate(ports):
            m.d.comb += [
                port.w.ready.eq(writing & (write_owner == index)),
                port.b.valid.eq(answered & (write_owner == index)),
                port.b.payload.eq(Mux(write_outside, DECERR, OKAY)),
            ]
        return m

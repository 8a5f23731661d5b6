"""Value grid: the largest exponent of every column of a value tile."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

__all__ = ["ValueGrid"]


class ValueGrid(wiring.Component):
    """G[f] = largest biased exponent of v[f] over a tile's rows, for both value buffers.

    Rows arrive a bus word at a time; a tile's first row replaces what is there. Two copies of the memory serve the update and
    the sequencer, so that each has one read and one write port.

    Members
    -------
    update, exponents, first, address : In
        A bus word of values: its exponents, whether its row is the tile's first, its address in the grid.
    read_address : In
        Read port; ``read_data`` follows a cycle later and holds while ``read_enable`` is low.
    """

    #: Cycles from ``update`` until a read sees it.
    latency = 3

    def __init__(self, config: Config):
        self.config = config
        self.depth = 2 * config.value_beats
        self._word = data.ArrayLayout(unsigned(8), config.beat_elements)
        address = unsigned((self.depth - 1).bit_length())
        super().__init__(
            {
                "update": In(1),
                "first": In(1),
                "address": In(address),
                "exponents": In(self._word),
                "read_enable": In(1),
                "read_address": In(address),
                "read_data": Out(self._word),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.running = running = Memory(shape=self._word, depth=self.depth, init=[])
        m.submodules.settled = settled = Memory(shape=self._word, depth=self.depth, init=[])
        read, write, copy = running.read_port(), running.write_port(), settled.write_port()
        out = settled.read_port()

        update, first, address = Signal(), Signal(), Signal.like(self.address)
        exponents = Signal(self._word)
        m.d.comb += [read.addr.eq(self.address), read.en.eq(1)]
        m.d.sync += [update.eq(self.update), first.eq(self.first), address.eq(self.address), exponents.eq(self.exponents)]

        # The word that was written a cycle ago was not yet in the memory when this one was read.
        written, written_address, written_data = Signal(), Signal.like(self.address), Signal(self._word)
        largest = Signal(self._word)
        m.d.sync += [written.eq(update), written_address.eq(address), written_data.eq(largest)]
        for new, stored, recent, result in zip(exponents, read.data, written_data, largest, strict=True):
            old = Signal(8)
            m.d.comb += [
                old.eq(Mux(written & (written_address == address), recent, stored)),
                result.eq(Mux(first | (new > old), new, old)),
            ]
        for port in (write, copy):
            m.d.comb += [port.en.eq(update), port.addr.eq(address), port.data.eq(largest)]
        m.d.comb += [out.addr.eq(self.read_address), out.en.eq(self.read_enable), self.read_data.eq(out.data)]
        return m

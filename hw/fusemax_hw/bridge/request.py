"""Header of the request under way, in registers, and what follows from it."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, ValueLike
from amaranth.utils import exact_log2

from fusemax.spec import Config, clog2
from fusemax.spec.bridge import LENGTH_LIMIT, REGISTER_BYTES

from .sender import SEQUENCE_BITS

__all__ = ["WORD_BYTES", "WORD_LOG2", "Request"]

#: Bytes of a register.
WORD_BYTES = 4
WORD_LOG2 = exact_log2(WORD_BYTES)


class Request:
    """Registers of a request's header, and its decoding.

    Parameters
    ----------
    config : Config
        Widths of the buses.
    memory_bytes : int
        Bytes that may be reached from address 0 on.
    payload_bytes : int
        Longest payload of an answer.

    Members
    -------
    command, number, length, address : Signal
        Fields of the header; ``length`` counts down, ``address`` goes on.
    header
        All of them; the bytes move in from the top, so that the first one arrives at the bottom.
    of_memory, of_registers, is_poll, carries, clears, writes
        What the command is about.
    end, beyond : Signal
        Address behind the request, 33 bits; it is behind the map.
    refused
        The request is not carried out.
    """

    def __init__(self, config: Config, memory_bytes: int, payload_bytes: int):
        self._lane_bits = exact_log2(config.bus_bytes)
        self.command = Signal(8)
        self.number = Signal(SEQUENCE_BITS)
        self.length = Signal(16)
        self.address = Signal(32)
        command, length, address = self.command, self.length, self.address
        self.header = Cat(command, self.number, length, address)
        #: Of an address that is within the map.
        self.mapped_address = address[: clog2(max(memory_bytes, REGISTER_BYTES))]
        self.of_memory, self.of_registers, self.is_poll = command[4], command[5], command[6]
        self.carries, self.clears = command[0], command[1]
        self.writes = self.carries | self.clears

        self.end = Signal(33)
        self.beyond = Signal()
        self.limit = Mux(self.of_registers, REGISTER_BYTES, memory_bytes)
        known = (
            (self.of_memory ^ self.of_registers)
            & ~(self.carries & self.clears)
            & ~(self.clears & self.of_registers)
            & ~command[2]
            & ~command[3]
        )
        misplaced = self.of_registers & (address[:WORD_LOG2].any() | length[:WORD_LOG2].any())
        too_long = ~self.writes & (length > payload_bytes)
        self.refused = ~known | self.beyond | misplaced | too_long | (length == 0) | length[clog2(LENGTH_LIMIT) :].any()

    def first_lane(self) -> ValueLike:
        """Lane of the bus word's first byte that the request is about."""
        return Mux(self.of_memory, self.address[: self._lane_bits], 0)

    def is_last_lane(self, lane: Signal) -> ValueLike:
        """Whether ``lane`` is the last one of a word."""
        return Mux(self.of_memory, lane.all(), lane[:WORD_LOG2].all())

    def is_inside(self, lane: Signal) -> ValueLike:
        """Whether the byte in ``lane`` is one that the request writes."""
        return (Mux(self.of_memory, lane >= self.address[: self._lane_bits], 1) != 0) & (self.length != 0)

    def bus_address(self) -> Any:
        """Address of the bus word."""
        return self.mapped_address[self._lane_bits :] << self._lane_bits

    def next_word(self, m: Module) -> None:
        """Statement: address of the next word; the first one may have begun within."""
        step = self._lane_bits - WORD_LOG2
        kept = self.mapped_address[WORD_LOG2:]
        words = Mux(self.of_memory, kept | ((1 << step) - 1), kept)
        m.d.sync += self.mapped_address.eq(Cat(C(0, WORD_LOG2), words + 1))

"""Requests from the bytes of a line: COBS, CRC and length checked before anyone sees a byte of them."""

from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import clog2
from fusemax.spec.bridge import CRC_BYTES, HEADER, LENGTH_LIMIT, Command

__all__ = ["FrameReceiver"]

LENGTH_BITS = clog2(LENGTH_LIMIT)
LENGTH_PLACE = 2


class FrameReceiver(wiring.Component):
    """Keep the header and payload of every sound request.

    What is not sound leaves no trace in the ring. A frame ends with a zero byte, and nothing before it can make a sound frame
    out of what follows: after garbage of any kind the second frame at the latest is received. Bytes must be at least 10 cycles
    apart (the CRC takes 8).

    Parameters
    ----------
    depth : int
        Bytes of the ring, a power of two.

    Members
    -------
    valid : In(1)
        A byte has come: high for a cycle.
    data : In(8)
        The byte; counts while ``valid`` is high.
    error : In(1)
        It is not to be trusted, likewise.
    body : Out(stream.Signature(8))
        Header and payload of the sound requests, one behind the other; a write has as many payload bytes as its header says.
    lost : Out(1)
        A frame was dropped, because it was damaged or the ring was full: high for a cycle.
    reset : Out(1)
        A sound RESET has come, which is not in ``body``: high for a cycle.
    flush : In(1)
        Forget all requests.
    """

    def __init__(self, depth: int):
        self._depth = depth
        super().__init__(
            {
                "valid": In(1),
                "data": In(8),
                "error": In(1),
                "body": Out(stream.Signature(unsigned(8))),
                "lost": Out(1),
                "reset": Out(1),
                "flush": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        crc, begin_crc = CRC32_ISO_HDLC(data_width=1).create(), Signal()
        # Its own input ``start`` would cost a gate in front of every bit.
        m.submodules.crc = ResetInserter(begin_crc)(crc)
        m.submodules.memory = memory = Memory(shape=unsigned(8), depth=self._depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        pointer = range(self._depth)

        # COBS: a group is its code, the number of the next code's place, and code - 1 bytes that are not zero. Between
        # groups stands a zero, except after the longest group.
        group_left = Signal(8)
        longest, empty = Signal(), Signal(init=1)
        byte, decoded, end = Signal(8), Signal(), Signal()
        with m.If(self.valid):
            with m.If(self.data == 0):
                m.d.comb += end.eq(1)
            with m.Elif(group_left == 0):
                m.d.comb += decoded.eq(~empty & ~longest)
                m.d.sync += [group_left.eq(self.data - 1), longest.eq(self.data == 0xFF), empty.eq(0)]
            with m.Else():
                m.d.comb += [decoded.eq(1), byte.eq(self.data)]
                m.d.sync += group_left.eq(group_left - 1)

        # The CRC takes a bit per cycle.
        bits, bits_left = Signal(8), Signal(range(9))
        m.d.comb += [crc.valid.eq(bits_left != 0), crc.data.eq(bits[0]), begin_crc.eq(end)]
        with m.If(decoded):
            m.d.sync += [bits.eq(byte), bits_left.eq(8)]
        with m.Elif(bits_left != 0):
            m.d.sync += [bits.eq(bits[1:]), bits_left.eq(bits_left - 1)]

        # What is left of the payload, from its length - 1 down; below zero the CRC's bytes are counted.
        place = Signal(range(HEADER.size + 1))
        left = Signal(LENGTH_BITS + 1)
        payload_left, complete = ~left[-1], Signal()
        carries, is_reset = Signal(), Signal()
        in_header = place != HEADER.size
        spoilt = Signal()
        begin, place_next, taken = Signal(pointer), Signal(pointer), Signal(pointer)
        m.d.comb += [
            # -1 - CRC_BYTES; one byte more or less is another value of the low three bits.
            complete.eq(~in_header & left[-1] & (left[:3] == (-1 - CRC_BYTES) & 7)),
            write.addr.eq(place_next),
            write.data.eq(byte),
        ]
        with m.If(decoded):
            with m.If((in_header | payload_left) & ~spoilt):
                m.d.comb += write.en.eq((place_next + 1)[: len(taken)] != taken)
                with m.If(write.en):
                    m.d.sync += place_next.eq(place_next + 1)
                with m.Else():
                    m.d.sync += spoilt.eq(1)
            with m.If(in_header):
                m.d.sync += place.eq(place + 1)
            with m.Switch(place):
                with m.Case(0):
                    m.d.sync += [carries.eq(byte[0]), is_reset.eq(byte == Command.RESET)]
                with m.Case(LENGTH_PLACE):
                    m.d.sync += left.eq(byte & carries.replicate(8))
                with m.Case(LENGTH_PLACE + 1):
                    high = LENGTH_BITS - 8
                    m.d.sync += left[8:].eq(byte[:high] & carries.replicate(high))
                    with m.If(carries & byte[high:].any()):
                        m.d.sync += spoilt.eq(1)
                with m.Case(HEADER.size - 1, HEADER.size):
                    m.d.sync += left.eq(left - 1)
                    with m.If(complete):
                        m.d.sync += spoilt.eq(1)
        with m.If(self.valid & self.error):
            m.d.sync += [spoilt.eq(1), empty.eq(0)]

        with m.If(end):
            m.d.sync += [group_left.eq(0), longest.eq(0), empty.eq(1), place.eq(0), spoilt.eq(0), place_next.eq(begin)]
            with m.If(~empty):
                with m.If(complete & crc.match_detected & (group_left == 0) & ~spoilt & ~self.error):
                    m.d.comb += self.reset.eq(is_reset)
                    with m.If(~is_reset):
                        m.d.sync += [begin.eq(place_next), place_next.eq(place_next)]
                with m.Else():
                    m.d.comb += self.lost.eq(1)

        advance = Signal()
        m.d.comb += [
            advance.eq(~self.body.valid | self.body.ready),
            read.addr.eq(taken),
            read.en.eq(advance),
            self.body.payload.eq(read.data),
        ]
        with m.If(self.flush):
            m.d.sync += [taken.eq(begin), self.body.valid.eq(0)]
        with m.Elif(advance):
            m.d.sync += self.body.valid.eq(taken != begin)
            with m.If(taken != begin):
                m.d.sync += taken.eq(taken + 1)
        return m

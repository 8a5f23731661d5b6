"""Answers to the bytes of a line, kept until they can no longer be asked for again."""

from typing import Any

from amaranth.hdl import Module, Mux, ResetInserter, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import clog2
from fusemax.spec.bridge import CRC_BYTES, GROUP_BYTES, SEQUENCES, WINDOW

__all__ = ["FrameSender", "FrameWriter", "answer_layout"]

SEQUENCE_BITS = clog2(SEQUENCES)
#: Places of frames that are kept: one for each of the window and one for the next.
PLACES = WINDOW + 1


def answer_layout() -> data.StructLayout:
    """A byte of an answer."""
    return data.StructLayout({"byte": 8, "last": 1})


def write_layout(depth: int) -> data.StructLayout:
    """What is written to the ring of answers."""
    return data.StructLayout({"enable": 1, "address": range(depth), "byte": 8})


class FrameWriter(wiring.Component):
    """Write answers as frames to the ring.

    Adds the CRC, codes by COBS, and closes the frame with a zero byte. Takes a byte every 9 cycles or so; the first one waits
    until ``enable``.

    Members
    -------
    answer : In(stream.Signature(answer_layout()))
        Bytes of the answers.
    enable : In(1)
        A frame may be begun in this cycle.
    begin : In(clog2(depth))
        Place of the next frame in the ring; counts when a frame is begun.
    write : Out(write_layout(depth))
        A byte for the ring; its ``enable`` says when it counts.
    done : Out(1)
        The frame is complete: high for a cycle.
    end : Out(clog2(depth))
        Place behind it; counts while ``done`` is high.
    """

    def __init__(self, depth: int):
        pointer = range(depth)
        super().__init__(
            {
                "answer": In(stream.Signature(answer_layout())),
                "enable": In(1),
                "begin": In(pointer),
                "write": Out(write_layout(depth)),
                "done": Out(1),
                "end": Out(pointer),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        crc, begin_crc = CRC32_ISO_HDLC(data_width=1).create(), Signal()
        m.submodules.crc = ResetInserter(begin_crc)(crc)
        # Place of the group's code, which is written when the group is complete, and of the next byte.
        code_place, place = Signal.like(self.begin), Signal.like(self.begin)
        code = Signal(8)
        # A byte is written in the first of its eight cycles; the CRC takes a bit in each.
        bits, bits_left, of_crc = Signal(8), Signal(range(9)), Signal()
        index = Signal(range(CRC_BYTES))
        put = (bits_left == 8) & (bits != 0)
        m.d.comb += [
            crc.valid.eq((bits_left != 0) & ~of_crc),
            crc.data.eq(bits[0]),
            self.end.eq(place),
            self.write.address.eq(Mux(put, place, code_place)),
            self.write.byte.eq(Mux(put, bits, code)),
        ]
        with m.If(bits_left != 0):
            m.d.sync += [bits.eq(bits[1:]), bits_left.eq(bits_left - 1)]

        next_group = Signal()
        with m.If(((bits_left == 8) & (bits == 0)) | ((bits_left == 7) & (code == GROUP_BYTES + 1))):
            m.d.comb += next_group.eq(1)
        with m.If(put):
            m.d.comb += self.write.enable.eq(1)
            m.d.sync += [place.eq(place + 1), code.eq(code + 1)]
        with m.If(next_group):
            m.d.comb += self.write.enable.eq(1)
            m.d.sync += [code_place.eq(place), place.eq(place + 1), code.eq(1)]

        with m.FSM():
            with m.State("BEGIN"):
                m.d.comb += begin_crc.eq(1)
                m.d.sync += [code_place.eq(self.begin), place.eq(self.begin + 1), code.eq(1), of_crc.eq(0)]
                with m.If(self.enable & self.answer.valid):
                    m.next = "BODY"
            with m.State("BODY"), m.If(bits_left == 0):
                m.d.comb += self.answer.ready.eq(1)
                m.d.sync += bits.eq(self.answer.payload.byte)
                with m.If(self.answer.valid):
                    m.d.sync += bits_left.eq(8)
                    with m.If(self.answer.payload.last):
                        m.next = "CRC"
            with m.State("CRC"), m.If(bits_left == 0):
                m.d.sync += [bits.eq(crc.crc.word_select(index, 8)), bits_left.eq(8), of_crc.eq(1), index.eq(index + 1)]
                with m.If(index == CRC_BYTES - 1):
                    m.next = "CODE"
            with m.State("CODE"), m.If(bits_left == 0):
                m.d.comb += next_group.eq(1)
                m.next = "ZERO"
            with m.State("ZERO"):
                # The place of a code that is not needed takes the closing zero.
                m.d.comb += [self.write.enable.eq(1), self.write.byte.eq(0)]
                m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += self.done.eq(1)
                m.next = "BEGIN"
        return m


class FrameSender(wiring.Component):
    """Keep answers in a ring, and send them once or again.

    Each is sent once, and those from a number on once more when told to. Between two answers it may have to send one that has
    no number, which is not kept.

    Parameters
    ----------
    depth : int
        Bytes of the ring, a power of two. The host never has more answers outstanding than it holds.

    Members
    -------
    write : In(write_layout(depth))
        A byte for the ring; its ``enable`` says when it counts.
    done : In(1)
        A frame is complete: high for a cycle.
    end : In(clog2(depth))
        Place behind it; counts while ``done`` is high.
    begin : Out(clog2(depth))
        Place of the next frame.
    enable : Out(1)
        The next frame may be begun.
    numbered : In(1)
        The frame is an answer under number ``sequence``, otherwise it has none; counts while ``done`` is high.
    sequence : Out(8)
        Number of the next answer; also that of the next request to be executed.
    replay : In(1)
        Send from number ``replay_from`` on once more, if those are kept.
    replay_from : In(8)
        That number; counts while ``replay`` is high.
    drop : In(1)
        Forget a frame without number that waits to be sent.
    bytes : Out(stream.Signature(8))
        What is sent.
    """

    def __init__(self, depth: int):
        self._depth = depth
        pointer = range(depth)
        super().__init__(
            {
                "write": In(write_layout(depth)),
                "done": In(1),
                "end": In(pointer),
                "begin": Out(pointer),
                "enable": Out(1),
                "numbered": In(1),
                "sequence": Out(SEQUENCE_BITS),
                "replay": In(1),
                "replay_from": In(SEQUENCE_BITS),
                "drop": In(1),
                "bytes": Out(stream.Signature(unsigned(8))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(8), depth=self._depth, init=[])
        write, read = memory.write_port(), memory.read_port()
        # Place by the low bits of the number. It is written a frame before it is needed, and read in every cycle.
        m.submodules.places = places = Memory(shape=range(self._depth), depth=PLACES, init=[])
        place_write, place_read = places.write_port(), places.read_port()
        extra = Signal()
        m.d.comb += [
            write.en.eq(self.write.enable),
            write.addr.eq(self.write.address),
            write.data.eq(self.write.byte),
            self.enable.eq(~extra),
        ]

        begun = Signal()
        m.d.sync += begun.eq(1)
        with m.If(~begun):
            # Behind a reset, the first frame's: 0.
            m.d.comb += place_write.en.eq(1)
        with m.Else():
            m.d.comb += [place_write.addr.eq((self.sequence + 1) % PLACES), place_write.data.eq(self.end)]
        with m.If(self.done & self.numbered):
            m.d.comb += place_write.en.eq(1)
            m.d.sync += [self.sequence.eq(self.sequence + 1), self.begin.eq(self.end)]

        number, next_number = Signal(SEQUENCE_BITS), Signal(SEQUENCE_BITS)
        m.d.comb += [next_number.eq(number), place_read.addr.eq(next_number % PLACES)]
        m.d.sync += number.eq(next_number)
        place, sends_extra = Signal(range(self._depth)), Signal()
        m.d.comb += [read.addr.eq(place), self.bytes.payload.eq(read.data)]
        with m.FSM():
            with m.State("CHOOSE"):
                with m.If(extra):
                    m.d.sync += [place.eq(self.begin), sends_extra.eq(1)]
                    m.next = "READ"
                with m.Elif(number != self.sequence):
                    m.d.comb += next_number.eq(number + 1)
                    m.d.sync += place.eq(place_read.data)
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += read.en.eq(1)
                m.next = "SEND"
            with m.State("SEND"):
                m.d.comb += self.bytes.valid.eq(1)
                with m.If(self.bytes.ready):
                    m.d.sync += place.eq(place + 1)
                    m.next = "READ"
                    with m.If(read.data == 0):
                        m.d.sync += sends_extra.eq(0)
                        m.next = "CHOOSE"
                        with m.If(sends_extra):
                            m.d.sync += extra.eq(0)
        with m.If(self.done & ~self.numbered):
            m.d.sync += extra.eq(1)
        with m.If(self.drop):
            m.d.sync += extra.eq(0)
        kept = (self.sequence - self.replay_from)[:SEQUENCE_BITS] < PLACES
        with m.If(self.replay & kept):
            m.d.comb += next_number.eq(self.replay_from)
        return m

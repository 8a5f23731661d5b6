"""Executes requests in order on the memory and register buses."""

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config
from fusemax.spec.bridge import (
    ANSWER,
    ANSWER_FLAG,
    BRIDGE_VERSION,
    HEADER,
    LENGTH_LIMIT,
    NO_REPLAY,
    REGISTER_BYTES,
    STATE,
    Command,
    Status,
)

from ..bus.axi import Axi4Master, AxiLiteSlave
from .sender import SEQUENCE_BITS, answer_layout

__all__ = ["Executor"]

WORD_BYTES = 4
LENGTH_BITS = (LENGTH_LIMIT - 1).bit_length()


def log2(value: int) -> int:
    return value.bit_length() - 1


class Executor(wiring.Component):
    """Takes requests, moves their words one at a time, and gives the answers.

    A request is executed if its number is the next one and lies within the address map; one that was executed before is
    dropped, one behind a gap is dropped and reported. Word for word, so the buses are free between two of them.

    Parameters
    ----------
    config : Config
        Widths of the buses.
    memory_bytes : int
        Bytes that may be reached from address 0 on.
    payload_bytes : int
        Longest payload of an answer, a power of two.
    receive_bytes, send_bytes : int
        Sizes of the rings, told to the host.

    Members
    -------
    body : In(stream.Signature(8))
        Sound requests.
    lost : In(1)
        A frame was dropped.
    answer : Out(stream.Signature(answer_layout()))
    numbered : Out(1)
        The answer being given is one under ``sequence``.
    done : In(1)
        The answer is complete.
    sequence : In(8)
        Number of the next request.
    replay, replay_from : Out
        Answers are wanted once more.
    memory : Out(Axi4Master(config))
    registers : In(AxiLiteSlave())
    irq : In(1)
    fresh : Out(1)
        No request was executed since this block was reset.
    """

    def __init__(self, config: Config, memory_bytes: int, payload_bytes: int, receive_bytes: int, send_bytes: int):
        self.config = config
        self._memory_bytes, self._payload_bytes = memory_bytes, payload_bytes
        self._sizes = (payload_bytes, receive_bytes, send_bytes)
        super().__init__(
            {
                "body": In(stream.Signature(unsigned(8))),
                "lost": In(1),
                "answer": Out(stream.Signature(answer_layout())),
                "numbered": Out(1),
                "done": In(1),
                "sequence": In(SEQUENCE_BITS),
                "replay": Out(1),
                "replay_from": Out(SEQUENCE_BITS),
                "memory": Out(Axi4Master(config)),
                "registers": In(AxiLiteSlave()),
                "irq": In(1),
                "fresh": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        memory, registers, body, answer = self.memory, self.registers, self.body, self.answer
        bus_bytes = self.config.bus_bytes
        lane_bits = log2(bus_bytes)

        # The header moves in from the top, so that its first byte arrives at the bottom.
        command, number, length, address = Signal(8), Signal(SEQUENCE_BITS), Signal(16), Signal(32)
        header = Cat(command, number, length, address)
        # Of an address that is within the map.
        place = address[: max(self._memory_bytes - 1, REGISTER_BYTES - 1).bit_length()]
        of_memory, of_registers, is_poll = command[4], command[5], command[6]
        carries, clears = command[0], command[1]
        writes = carries | clears
        index = Signal(range(max(HEADER.size, STATE.size)))
        lane = Signal(lane_bits)
        last_lane = Mux(of_memory, lane.all(), lane[: log2(WORD_BYTES)].all())
        status = Signal(2)
        is_state, token, fresh = Signal(), Signal(8), Signal(init=1)
        m.d.comb += [self.fresh.eq(fresh), self.numbered.eq(~is_state), self.replay_from.eq(address)]

        # What the host is told without having asked: a frame was lost (once per gap), the interrupt has risen.
        lost, gap, gap_told, interrupt_told = Signal(), Signal(), Signal(), Signal()
        with m.If(self.lost):
            m.d.sync += lost.eq(1)
        with m.If(~self.irq):
            m.d.sync += interrupt_told.eq(0)
        flags = Signal(3)

        end, beyond = Signal(33), Signal()
        limit = Mux(of_registers, REGISTER_BYTES, self._memory_bytes)
        known = (of_memory ^ of_registers) & ~(carries & clears) & ~(clears & of_registers) & ~command[2] & ~command[3]
        misplaced = of_registers & (address[: log2(WORD_BYTES)].any() | length[: log2(WORD_BYTES)].any())
        too_long = ~writes & (length > self._payload_bytes)
        refused = ~known | beyond | misplaced | too_long | (length == 0) | length[LENGTH_BITS:].any()
        ahead = (number - self.sequence)[:SEQUENCE_BITS]

        def last_of(count: int) -> Any:
            return index == count - 1

        def next_word() -> None:
            """Address of the next word; the first one may have begun within."""
            step = lane_bits - log2(WORD_BYTES)
            kept = place[log2(WORD_BYTES) :]
            words = Mux(of_memory, kept | ((1 << step) - 1), kept)
            m.d.sync += place.eq(Cat(C(0, log2(WORD_BYTES)), words + 1))

        def note(response: Any) -> None:
            with m.If(response[1]):
                m.d.sync += status.eq(status | response)

        # Bytes of a word move in from the top, with their strobes.
        word, strobes = Signal(self.config.bus_bits), Signal(bus_bytes)
        inside = (Mux(of_memory, lane >= address[:lane_bits], 1) != 0) & (length != 0)
        gather = Signal()
        with m.If(gather):
            m.d.sync += [word.eq(Cat(word[8:], Mux(carries, body.payload, 0))), strobes.eq(Cat(strobes[1:], inside))]
        address_left, data_left = Signal(), Signal()
        of_word = place[lane_bits:] << lane_bits
        m.d.comb += [
            memory.aw.payload.address.eq(of_word),
            memory.ar.payload.address.eq(of_word),
            memory.w.payload.data.eq(word),
            memory.w.payload.strobe.eq(strobes),
            memory.w.payload.last.eq(1),
            registers.aw.payload.eq(address),
            registers.ar.payload.eq(address),
            registers.w.payload.data.eq(word[-8 * WORD_BYTES :]),
            registers.w.payload.strobe.eq(0b1111),
        ]

        state_bytes = [
            token,
            flags,
            BRIDGE_VERSION,
            *map(log2, self._sizes),
            bus_bytes,
            0,
            *self._memory_bytes.to_bytes(4, "little"),
        ]
        assert len(state_bytes) == STATE.size
        answer_length = Mux(is_state, STATE.size, Mux(writes | (status == Status.REFUSED), 0, length))
        answer_header = [
            Mux(is_state, C(Command.POLL | ANSWER_FLAG, 8), command | ANSWER_FLAG),
            Mux(is_state, self.sequence, number),
            answer_length[:8],
            answer_length[8:],
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [is_state.eq(0), index.eq(0), lane.eq(0), token.eq(0)]
                with m.If(gap | (~body.valid & (lost | (self.irq & ~interrupt_told)))):
                    m.d.sync += is_state.eq(1)
                    m.next = "STATE"
                with m.Elif(body.valid):
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += body.ready.eq(1)
                with m.If(body.valid):
                    m.d.sync += [header.eq(Cat(header[8:], body.payload)), index.eq(index + 1)]
                    with m.If(last_of(HEADER.size)):
                        m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += end.eq(address + length)
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += [beyond.eq(end > limit), index.eq(0)]
                m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.If(is_poll):
                    m.d.comb += self.replay.eq(address[log2(NO_REPLAY)] == 0)
                    m.d.sync += [is_state.eq(1), token.eq(number)]
                    m.next = "STATE"
                with m.Elif(ahead != 0):
                    # Numbers in the first half of the circle are not yet due, those in the second were executed.
                    with m.If(~ahead[-1] & ~gap_told):
                        m.d.sync += gap.eq(1)
                    m.next = "IDLE"
                    with m.If(carries):
                        m.next = "DISCARD"
                with m.Else():
                    m.d.sync += [fresh.eq(0), gap_told.eq(0)]
                    m.d.sync += status.eq(Mux(refused, Status.REFUSED, Status.OKAY))
                    with m.If(refused & carries):
                        m.next = "DISCARD"
                    with m.Elif(writes & ~refused):
                        m.next = "GATHER"
                    with m.Else():
                        m.next = "ANSWER"

            with m.State("DISCARD"):
                with m.If(length == 0):
                    m.next = "IDLE"
                    with m.If(ahead == 0):
                        m.next = "ANSWER"
                with m.Else():
                    m.d.comb += body.ready.eq(1)
                    with m.If(body.valid):
                        m.d.sync += length.eq(length - 1)

            with m.State("GATHER"):
                m.d.comb += [body.ready.eq(inside & carries), gather.eq(~inside | clears | body.valid)]
                with m.If(gather):
                    m.d.sync += [lane.eq(lane + 1), length.eq(length - inside)]
                    with m.If(last_lane):
                        m.d.sync += [lane.eq(0), address_left.eq(1), data_left.eq(1)]
                        m.next = "WRITE"
            with m.State("WRITE"):
                for bus, selected in ((memory, of_memory), (registers, of_registers)):
                    m.d.comb += [
                        bus.aw.valid.eq(selected & address_left),
                        bus.w.valid.eq(selected & data_left),
                        bus.b.ready.eq(selected & ~address_left & ~data_left),
                    ]
                    with m.If(bus.aw.valid & bus.aw.ready):
                        m.d.sync += address_left.eq(0)
                    with m.If(bus.w.valid & bus.w.ready):
                        m.d.sync += data_left.eq(0)
                    with m.If(bus.b.valid & bus.b.ready):
                        note(bus.b.payload)
                        next_word()
                        m.next = "GATHER"
                        with m.If(length == 0):
                            m.next = "ANSWER"

            with m.State("ANSWER"):
                m.d.comb += [answer.valid.eq(1), answer.payload.byte.eq(Array(answer_header)[index[:2]])]
                with m.If(answer.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(last_of(ANSWER.size)):
                        m.d.sync += [index.eq(0), lane.eq(Mux(of_memory, address[:lane_bits], 0))]
                        m.next = "READ"
                        with m.If(is_state):
                            m.next = "STATE_BODY"
                        with m.Elif(answer_length == 0):
                            m.next = "STATUS"
            with m.State("READ"):
                m.d.comb += [memory.ar.valid.eq(of_memory), registers.ar.valid.eq(of_registers)]
                with m.If(Mux(of_memory, memory.ar.ready, registers.ar.ready)):
                    m.next = "READ_BODY"
            with m.State("READ_BODY"):
                # The bus holds the word until all its bytes are taken.
                m.d.comb += [
                    answer.valid.eq(Mux(of_memory, memory.r.valid, registers.r.valid)),
                    answer.payload.byte.eq(
                        Mux(
                            of_memory,
                            memory.r.payload.data.word_select(lane, 8),
                            registers.r.payload.data.word_select(lane[: log2(WORD_BYTES)], 8),
                        )
                    ),
                ]
                with m.If(answer.valid & answer.ready):
                    m.d.sync += [lane.eq(lane + 1), length.eq(length - 1)]
                    with m.If(last_lane | (length == 1)):
                        m.d.comb += [memory.r.ready.eq(of_memory), registers.r.ready.eq(of_registers)]
                        note(Mux(of_memory, memory.r.payload.response, registers.r.payload.response))
                        m.d.sync += lane.eq(0)
                        next_word()
                        m.next = "READ"
                        with m.If(length == 1):
                            m.next = "STATUS"
            with m.State("STATUS"):
                m.d.comb += [answer.valid.eq(1), answer.payload.last.eq(1), answer.payload.byte.eq(Mux(is_state, 0, status))]
                with m.If(answer.ready):
                    m.next = "DONE"
            # The frame's kind and number count until it is complete.
            with m.State("DONE"), m.If(self.done):
                m.next = "IDLE"

            with m.State("STATE"):
                m.d.sync += [
                    flags.eq(Cat(self.irq, fresh, lost | gap)),
                    lost.eq(self.lost),
                    gap.eq(0),
                    gap_told.eq(gap_told | lost | gap),
                    interrupt_told.eq(self.irq),
                ]
                m.next = "ANSWER"
            with m.State("STATE_BODY"):
                m.d.comb += answer.valid.eq(1)
                with m.Switch(index):
                    for number_of_byte, byte in enumerate(state_bytes):
                        with m.Case(number_of_byte):
                            m.d.comb += answer.payload.byte.eq(byte)
                with m.If(answer.ready):
                    m.d.sync += index.eq(index + 1)
                    with m.If(last_of(STATE.size)):
                        m.next = "STATUS"
        return m

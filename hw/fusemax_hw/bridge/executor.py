"""Executes requests in order on the memory and register buses."""

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, ValueLike, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config
from fusemax.spec.bridge import (
    ANSWER,
    ANSWER_FLAG,
    BRIDGE_VERSION,
    HEADER,
    NO_REPLAY,
    STATE,
    Command,
    Status,
)

from ..bus.axi import Axi4Master, AxiLiteSlave
from .request import WORD_BYTES, WORD_LOG2, Request
from .sender import SEQUENCE_BITS, answer_layout

__all__ = ["Executor"]


class Progress:
    """How far the request and its answer are.

    Members
    -------
    index, lane : Signal
        Byte of a header or of the state; byte of a bus word.
    status : Signal
        Worst response so far.
    is_state, token : Signal
        The answer is the state; the byte that the host asked for it with.
    fresh : Signal(1)
        No request was executed since the reset.
    """

    def __init__(self, config: Config):
        self.index = Signal(range(max(HEADER.size, STATE.size)))
        self.lane = Signal(exact_log2(config.bus_bytes))
        self.status = Signal(2)
        self.is_state = Signal()
        self.token = Signal(8)
        self.fresh = Signal(init=1)

    def is_last_of(self, count: int) -> ValueLike:
        """Whether ``index`` is that of the last of ``count`` bytes."""
        return self.index == count - 1

    def note(self, m: Module, response: ValueLike) -> None:
        """Statement: keep the response of a bus if it is an error."""
        with m.If(response[1]):
            m.d.sync += self.status.eq(self.status | response)


class Notices:
    """What the host is told without having asked: ``lost`` and ``gap`` want to be told, the others were."""

    def __init__(self) -> None:
        self.lost = Signal()
        self.gap = Signal()
        self.gap_told = Signal()
        self.interrupt_told = Signal()
        self.flags = Signal(3)


class Word:
    """A bus word to write, while it is gathered: ``gather`` takes a byte, which is ``inside`` what is to be written or not."""

    def __init__(self, config: Config, inside: ValueLike):
        self.data = Signal(config.bus_bits, name="word")
        self.strobes = Signal(config.bus_bytes)
        self.inside = inside
        self.gather = Signal()


class Executor(wiring.Component):
    """Execute requests in order, and give their answers.

    A request is executed if its number is the next one and lies within the address map; one that was executed before is
    dropped, one behind a gap is dropped and reported. Words are moved one at a time, so the buses are free between two of them.

    The class is long because its fifteen states share their registers; a method has the states of a phase.

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
        Bytes of sound requests.
    lost : In(1)
        A frame was dropped: high for a cycle.
    answer : Out(stream.Signature(answer_layout()))
        Bytes of the answers.
    numbered : Out(1)
        The answer being given is one under ``sequence``; stays until ``done``.
    done : In(1)
        The answer is complete: high for a cycle.
    sequence : In(8)
        Number of the next request.
    replay : Out(1)
        Answers are wanted once more: high for a cycle.
    replay_from : Out(8)
        From which number on; counts while ``replay`` is high.
    memory : Out(Axi4Master(config))
        To the memory's bus.
    registers : In(AxiLiteSlave())
        To the registers' bus.
    irq : In(1)
        Interrupt of the system, a level.
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
        request = Request(self.config, self._memory_bytes, self._payload_bytes)
        progress = Progress(self.config)
        m.d.comb += [
            self.fresh.eq(progress.fresh),
            self.numbered.eq(~progress.is_state),
            self.replay_from.eq(request.address),
        ]
        notices = self._notice(m)
        word = self._gather_word(m, request, progress)
        self._connect_buses(m, request, word)
        with m.FSM():
            self._take_request(m, request, progress, notices)
            self._write(m, request, progress, word)
            self._answer(m, request, progress)
            self._read(m, request, progress)
            self._finish_answer(m, progress)
            self._tell_state(m, progress, notices)
        return m

    def _notice(self, m: Module) -> Notices:
        """Keep what the host is told without having asked: a frame was lost (once per gap), the interrupt has risen."""
        notices = Notices()
        with m.If(self.lost):
            m.d.sync += notices.lost.eq(1)
        with m.If(~self.irq):
            m.d.sync += notices.interrupt_told.eq(0)
        return notices

    def _gather_word(self, m: Module, request: Request, progress: Progress) -> Word:
        """Move the bytes of a word in from the top, with their strobes."""
        word = Word(self.config, request.is_inside(progress.lane))
        with m.If(word.gather):
            m.d.sync += [
                word.data.eq(Cat(word.data[8:], Mux(request.carries, self.body.payload, 0))),
                word.strobes.eq(Cat(word.strobes[1:], word.inside)),
            ]
        return word

    def _connect_buses(self, m: Module, request: Request, word: Word) -> None:
        """Put addresses and data on both buses; the states say when they are valid."""
        memory, registers, of_word = self.memory, self.registers, request.bus_address()
        m.d.comb += [
            memory.aw.payload.address.eq(of_word),
            memory.ar.payload.address.eq(of_word),
            memory.w.payload.data.eq(word.data),
            memory.w.payload.strobe.eq(word.strobes),
            memory.w.payload.last.eq(1),
            registers.aw.payload.eq(request.address),
            registers.ar.payload.eq(request.address),
            registers.w.payload.data.eq(word.data[-8 * WORD_BYTES :]),
            registers.w.payload.strobe.eq(0b1111),
        ]

    def _take_request(self, m: Module, request: Request, progress: Progress, notices: Notices) -> None:
        """States: wait for a request or for something to tell, take a header, decide what becomes of it."""
        body, index, is_state, carries = self.body, progress.index, progress.is_state, request.carries
        gap, gap_told = notices.gap, notices.gap_told
        ahead = (request.number - self.sequence)[:SEQUENCE_BITS]
        with m.State("IDLE"):
            m.d.sync += [is_state.eq(0), index.eq(0), progress.lane.eq(0), progress.token.eq(0)]
            with m.If(gap | (~body.valid & (notices.lost | (self.irq & ~notices.interrupt_told)))):
                m.d.sync += is_state.eq(1)
                m.next = "STATE"
            with m.Elif(body.valid):
                m.next = "HEADER"
        with m.State("HEADER"):
            m.d.comb += body.ready.eq(1)
            with m.If(body.valid):
                m.d.sync += [request.header.eq(Cat(request.header[8:], body.payload)), index.eq(index + 1)]
                with m.If(progress.is_last_of(HEADER.size)):
                    m.next = "SUM"
        with m.State("SUM"):
            m.d.sync += request.end.eq(request.address + request.length)
            m.next = "CHECK"
        with m.State("CHECK"):
            m.d.sync += [request.beyond.eq(request.end > request.limit), index.eq(0)]
            m.next = "DECIDE"
        with m.State("DECIDE"):
            with m.If(request.is_poll):
                m.d.comb += self.replay.eq(request.address[exact_log2(NO_REPLAY)] == 0)
                m.d.sync += [is_state.eq(1), progress.token.eq(request.number)]
                m.next = "STATE"
            with m.Elif(ahead != 0):
                # Numbers in the first half of the circle are not yet due, those in the second were executed.
                with m.If(~ahead[-1] & ~gap_told):
                    m.d.sync += gap.eq(1)
                m.next = "IDLE"
                with m.If(carries):
                    m.next = "DISCARD"
            with m.Else():
                m.d.sync += [progress.fresh.eq(0), gap_told.eq(0)]
                m.d.sync += progress.status.eq(Mux(request.refused, Status.REFUSED, Status.OKAY))
                with m.If(request.refused & carries):
                    m.next = "DISCARD"
                with m.Elif(request.writes & ~request.refused):
                    m.next = "GATHER"
                with m.Else():
                    m.next = "ANSWER"
        with m.State("DISCARD"):
            with m.If(request.length == 0):
                m.next = "IDLE"
                with m.If(ahead == 0):
                    m.next = "ANSWER"
            with m.Else():
                m.d.comb += body.ready.eq(1)
                with m.If(body.valid):
                    m.d.sync += request.length.eq(request.length - 1)

    def _write(self, m: Module, request: Request, progress: Progress, word: Word) -> None:
        """States: gather a word, write it, and go on with the next one."""
        body, lane, length = self.body, progress.lane, request.length
        address_left, data_left = Signal(), Signal()
        with m.State("GATHER"):
            m.d.comb += [
                body.ready.eq(word.inside & request.carries),
                word.gather.eq(~word.inside | request.clears | body.valid),
            ]
            with m.If(word.gather):
                m.d.sync += [lane.eq(lane + 1), length.eq(length - word.inside)]
                with m.If(request.is_last_lane(lane)):
                    m.d.sync += [lane.eq(0), address_left.eq(1), data_left.eq(1)]
                    m.next = "WRITE"
        with m.State("WRITE"):
            for bus, selected in ((self.memory, request.of_memory), (self.registers, request.of_registers)):
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
                    progress.note(m, bus.b.payload)
                    request.next_word(m)
                    m.next = "GATHER"
                    with m.If(length == 0):
                        m.next = "ANSWER"

    def _answer(self, m: Module, request: Request, progress: Progress) -> None:
        """State: give the header of an answer, or of the state."""
        answer, index, is_state = self.answer, progress.index, progress.is_state
        no_payload = request.writes | (progress.status == Status.REFUSED)
        answer_length = Mux(is_state, STATE.size, Mux(no_payload, 0, request.length))
        header = [
            Mux(is_state, C(Command.POLL | ANSWER_FLAG, 8), request.command | ANSWER_FLAG),
            Mux(is_state, self.sequence, request.number),
            answer_length[:8],
            answer_length[8:],
        ]
        with m.State("ANSWER"):
            m.d.comb += [answer.valid.eq(1), answer.payload.byte.eq(Array(header)[index[:2]])]
            with m.If(answer.ready):
                m.d.sync += index.eq(index + 1)
                with m.If(progress.is_last_of(ANSWER.size)):
                    m.d.sync += [index.eq(0), progress.lane.eq(request.first_lane())]
                    m.next = "READ"
                    with m.If(is_state):
                        m.next = "STATE_BODY"
                    with m.Elif(answer_length == 0):
                        m.next = "STATUS"

    def _read(self, m: Module, request: Request, progress: Progress) -> None:
        """States: read a word, give its bytes, and go on with the next one."""
        memory, registers, answer = self.memory, self.registers, self.answer
        lane, length, of_memory = progress.lane, request.length, request.of_memory
        with m.State("READ"):
            m.d.comb += [memory.ar.valid.eq(of_memory), registers.ar.valid.eq(request.of_registers)]
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
                        registers.r.payload.data.word_select(lane[:WORD_LOG2], 8),
                    )
                ),
            ]
            with m.If(answer.valid & answer.ready):
                m.d.sync += [lane.eq(lane + 1), length.eq(length - 1)]
                with m.If(request.is_last_lane(lane) | (length == 1)):
                    m.d.comb += [memory.r.ready.eq(of_memory), registers.r.ready.eq(request.of_registers)]
                    progress.note(m, Mux(of_memory, memory.r.payload.response, registers.r.payload.response))
                    m.d.sync += lane.eq(0)
                    request.next_word(m)
                    m.next = "READ"
                    with m.If(length == 1):
                        m.next = "STATUS"

    def _finish_answer(self, m: Module, progress: Progress) -> None:
        """States: give the status, an answer's last byte; its kind and number count until it is complete."""
        answer = self.answer
        with m.State("STATUS"):
            status = Mux(progress.is_state, 0, progress.status)
            m.d.comb += [answer.valid.eq(1), answer.payload.last.eq(1), answer.payload.byte.eq(status)]
            with m.If(answer.ready):
                m.next = "DONE"
        with m.State("DONE"), m.If(self.done):
            m.next = "IDLE"

    def _tell_state(self, m: Module, progress: Progress, notices: Notices) -> None:
        """States: collect what there is to tell, and give it."""
        lost, gap, gap_told, flags = notices.lost, notices.gap, notices.gap_told, notices.flags
        state_bytes = [
            progress.token,
            flags,
            BRIDGE_VERSION,
            *map(exact_log2, self._sizes),
            self.config.bus_bytes,
            0,
            *self._memory_bytes.to_bytes(4, "little"),
        ]
        assert len(state_bytes) == STATE.size
        with m.State("STATE"):
            m.d.sync += [
                flags.eq(Cat(self.irq, progress.fresh, lost | gap)),
                lost.eq(self.lost),
                gap.eq(0),
                gap_told.eq(gap_told | lost | gap),
                notices.interrupt_told.eq(self.irq),
            ]
            m.next = "ANSWER"
        with m.State("STATE_BODY"):
            m.d.comb += self.answer.valid.eq(1)
            with m.Switch(progress.index):
                for number, byte in enumerate(state_bytes):
                    with m.Case(number):
                        m.d.comb += self.answer.payload.byte.eq(byte)
            with m.If(self.answer.ready):
                m.d.sync += progress.index.eq(progress.index + 1)
                with m.If(progress.is_last_of(STATE.size)):
                    m.next = "STATUS"

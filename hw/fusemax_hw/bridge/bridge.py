"""The bridge: a serial line on one side, the memory and register buses on the other (docs/reference/bridge.md)."""

from typing import Any

from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from fusemax.spec import Config
from fusemax.spec.bridge import LENGTH_LIMIT

from ..bus.axi import Axi4Master, AxiLiteSlave
from .executor import Executor
from .receiver import FrameReceiver
from .sender import FrameSender, FrameWriter
from .uart import UartReceiver, UartTransmitter

__all__ = ["RESET_CYCLES", "Bridge"]

#: Length of the reset that a frame asks for.
RESET_CYCLES = 16


class Bridge(wiring.Component):
    """Executes the requests of a host on a serial line.

    Parameters
    ----------
    config : Config
        Widths of the buses.
    divisor : int
        Clock cycles per bit of the line.
    memory_bytes : int
        The host reaches memory addresses below this; a multiple of the bus word, at most 4 GiB - 4096.
    payload_bytes : int
        Most bytes that a read may ask for.
    receive_bytes, send_bytes : int
        Bytes that are kept of requests that wait, and of answers that may be asked for again; powers of two.

    Members
    -------
    rx, tx : In(1), Out(1)
        The line.
    memory : Out(Axi4Master(config))
        Bursts of one word.
    registers : In(AxiLiteSlave())
        To the registers' bus, of which this is the master.
    irq : In(1)
        Interrupt of the system; the host is told when it rises.
    reset : Out(1)
        High for 16 cycles when the host asks for it: everything that the buses lead to must be reset by it.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of its range.
    """

    def __init__(
        self,
        config: Config,
        *,
        divisor: int,
        memory_bytes: int,
        payload_bytes: int = 512,
        receive_bytes: int = 4096,
        send_bytes: int = 4096,
    ):
        for name, value, low, high in (
            ("payload_bytes", payload_bytes, 64, LENGTH_LIMIT // 2),
            ("receive_bytes", receive_bytes, 2 * payload_bytes, 1 << 16),
            ("send_bytes", send_bytes, 2 * payload_bytes, 1 << 16),
        ):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an integer, not {value!r}")
            if not low <= value <= high or value & (value - 1):
                raise ValueError(f"{name} must be a power of two from {low} to {high}, not {value!r}")
        limit = min(1 << config.address_bits, (1 << 32) - LENGTH_LIMIT)
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        if not 0 < memory_bytes <= limit or memory_bytes % config.bus_bytes:
            raise ValueError(f"memory_bytes must be a multiple of {config.bus_bytes} up to {limit}, not {memory_bytes!r}")
        self._executor = Executor(config, memory_bytes, payload_bytes, receive_bytes, send_bytes)
        self._receiver, self._sender, self._writer = (
            FrameReceiver(receive_bytes),
            FrameSender(send_bytes),
            FrameWriter(send_bytes),
        )
        self._uart_receiver, self._uart_transmitter = UartReceiver(divisor), UartTransmitter(divisor)
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1),
                "memory": Out(Axi4Master(config)),
                "registers": In(AxiLiteSlave()),
                "irq": In(1),
                "reset": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.uart_receiver = uart_receiver = self._uart_receiver
        m.submodules.uart_transmitter = uart_transmitter = self._uart_transmitter
        m.submodules.receiver = receiver = self._receiver
        m.submodules.sender = sender = self._sender
        executor, writer = self._executor, self._writer
        # A reset ends what is under way, also where a bus never answers; numbers and the answers that are kept survive it.
        m.submodules.executor = ResetInserter(self.reset)(executor)
        m.submodules.writer = ResetInserter(self.reset)(writer)
        left = Signal(range(RESET_CYCLES))
        with m.If(receiver.reset & ~executor.fresh):
            m.d.sync += [left.eq(RESET_CYCLES - 1), self.reset.eq(1)]
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        with m.Else():
            m.d.sync += self.reset.eq(0)

        connect(m, executor.body, receiver.body)
        connect(m, executor.answer, writer.answer)
        connect(m, sender.bytes, uart_transmitter.bytes)
        for bus, own in ((self.memory, executor.memory), (self.registers, executor.registers)):
            connect(m, own, flipped(bus))
        m.d.comb += [
            uart_receiver.rx.eq(self.rx),
            self.tx.eq(uart_transmitter.tx),
            receiver.valid.eq(uart_receiver.valid),
            receiver.data.eq(uart_receiver.data),
            receiver.error.eq(uart_receiver.error),
            receiver.flush.eq(self.reset),
            executor.lost.eq(receiver.lost),
            executor.irq.eq(self.irq),
            executor.done.eq(writer.done),
            executor.sequence.eq(sender.sequence),
            sender.numbered.eq(executor.numbered),
            sender.replay.eq(executor.replay),
            sender.replay_from.eq(executor.replay_from),
            sender.drop.eq(self.reset),
            sender.write.eq(writer.write),
            sender.done.eq(writer.done),
            sender.end.eq(writer.end),
            writer.begin.eq(sender.begin),
            writer.enable.eq(sender.enable),
        ]
        return m

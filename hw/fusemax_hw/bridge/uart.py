"""Serial line: 8 data bits, no parity, one stop bit, the lowest bit first."""

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["MIN_DIVISOR", "UartReceiver", "UartTransmitter", "check_divisor", "divisor"]

#: Fewest clock cycles per bit: the receiver looks at the middle of a bit that is up to one cycle off.
MIN_DIVISOR = 4
MAX_DIVISOR = 1 << 16
#: Largest relative error of the baud rate. 9.5 bits after the start edge 2 % are a fifth of a bit.
RATE_TOLERANCE = 0.02


def check_divisor(divisor: int) -> int:
    """``divisor`` if it is one.

    Raises
    ------
    TypeError, ValueError
        If it is not an integer from 4 to 65536.
    """
    if not isinstance(divisor, int) or isinstance(divisor, bool):
        raise TypeError(f"divisor must be an integer, not {divisor!r}")
    if not MIN_DIVISOR <= divisor <= MAX_DIVISOR:
        raise ValueError(f"divisor must be from {MIN_DIVISOR} to {MAX_DIVISOR}, not {divisor!r}")
    return divisor


def divisor(clock_hz: float, baud: float) -> int:
    """Clock cycles per bit for a baud rate.

    Raises
    ------
    ValueError
        If there are fewer than 4 or more than 65536, or the nearest rate is more than 2 % away.
    """
    cycles = round(clock_hz / baud)
    if cycles < MIN_DIVISOR:
        raise ValueError(f"baud must be at most a quarter of the clock, {clock_hz / MIN_DIVISOR:.0f}, not {baud!r}")
    if cycles > MAX_DIVISOR:
        raise ValueError(f"baud must be at least the clock over {MAX_DIVISOR}, {clock_hz / MAX_DIVISOR:.0f}, not {baud!r}")
    if abs(clock_hz / cycles / baud - 1) > RATE_TOLERANCE:
        raise ValueError(f"baud must be within 2 % of {clock_hz:.0f} Hz over an integer, not {baud!r}")
    return check_divisor(cycles)


class UartReceiver(wiring.Component):
    """Receive bytes from a line.

    Starts at a falling edge, looks at the middle of every bit.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit.

    Members
    -------
    rx : In(1)
        The pin; any phase.
    valid : Out(1)
        A byte has come: high for a cycle.
    data : Out(8)
        The byte; counts while ``valid`` is high.
    error : Out(1)
        Its stop bit was not high, so it is not to be trusted; counts while ``valid`` is high.
    """

    def __init__(self, divisor: int):
        self._divisor = check_divisor(divisor)
        super().__init__({"rx": In(1), "valid": Out(1), "data": Out(8), "error": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        line, before = Signal(init=1), Signal(init=1)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)
        m.d.sync += before.eq(line)

        # Stop bit, data, start bit: the start bit has arrived at the bottom when the stop bit is looked at.
        bits = Signal(9)
        left = Signal(range(11))
        cycles = Signal(range(self._divisor))
        m.d.sync += self.valid.eq(0)
        with m.If(left == 0):
            # The edge is one cycle old: half a bit from its begin.
            m.d.sync += [left.eq(Mux(before & ~line, 10, 0)), cycles.eq(self._divisor // 2 - 1)]
        with m.Elif(cycles != 0):
            m.d.sync += cycles.eq(cycles - 1)
        with m.Else():
            m.d.sync += [cycles.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], line))]
            with m.If((left == 10) & line):
                m.d.sync += left.eq(0)  # A spike, not a start bit.
            with m.If(left == 1):
                m.d.sync += self.valid.eq(1)
        m.d.comb += [self.data.eq(bits[:8]), self.error.eq(~bits[8])]
        return m


class UartTransmitter(wiring.Component):
    """Send bytes to a line, without a pause while there are any.

    Parameters
    ----------
    divisor : int
        Clock cycles per bit.

    Members
    -------
    bytes : In(stream.Signature(8))
        What to send.
    tx : Out(1)
        The pin.
    """

    def __init__(self, divisor: int):
        self._divisor = check_divisor(divisor)
        super().__init__({"bytes": In(stream.Signature(unsigned(8))), "tx": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        bits = Signal(9, init=0x1FF)
        left = Signal(range(11))
        cycles = Signal(range(self._divisor))
        next_bit, last = Signal(), Signal()
        m.d.comb += [
            self.tx.eq(bits[0]),
            next_bit.eq(cycles == 0),
            last.eq(left == 0),
            self.bytes.ready.eq(next_bit & last),
        ]
        with m.If(~next_bit):
            m.d.sync += cycles.eq(cycles - 1)
        with m.Elif(~last):
            m.d.sync += [cycles.eq(self._divisor - 1), left.eq(left - 1), bits.eq(Cat(bits[1:], 1))]
        with m.Elif(self.bytes.valid):
            m.d.sync += [cycles.eq(self._divisor - 1), left.eq(9), bits.eq(Cat(0, self.bytes.payload))]
        return m

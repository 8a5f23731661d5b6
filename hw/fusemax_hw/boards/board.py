"""What a board's file adds to the system, and the top that joins them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.build import Platform
from amaranth.hdl import ClockDomain, ClockSignal, Elaboratable, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from fusemax.board.catalog import Board

from .pll import Pll
from .system import System

__all__ = ["BoardTop", "Gateware", "Pins"]


@dataclass(frozen=True)
class Pins:
    """Names and numbers of the resources of a board's platform."""

    clock: str
    button: tuple[str, int] = ("button", 0)
    busy: tuple[str, int] = ("led", 0)
    error: tuple[str, int] = ("led", 1)
    uart: tuple[str, int] = ("uart", 0)


class Gateware(ABC):
    """A board: its platform, pins and PLL.

    Members
    -------
    board : Board
    pins : Pins
    pll : Pll
    cells : dict of str to (str, int)
        Of a cell of the synthesised netlist: what it takes of the FPGA, and how many.
    synthesis : str
        Yosys command.
    open_steps : int
        How many of the steps of the platform's tools are Yosys, nextpnr and so on; the others need the vendor's tools.
    """

    board: ClassVar[Board]
    pins: ClassVar[Pins]
    pll: ClassVar[Pll]
    cells: ClassVar[dict[str, tuple[str, int]]]
    synthesis: ClassVar[str]
    open_steps: ClassVar[int]

    @abstractmethod
    def platform(self) -> Platform:
        """A new platform."""

    @abstractmethod
    def add_pll(self, m: Module, settings: tuple[int, int, int, float], pin: Any, clock: Any, locked: Any) -> None:
        """Add the PLL: from the pin's signal to ``clock``; ``locked`` is high when it runs."""


class BoardTop(Elaboratable):
    """A board's top: PLL, reset, pins, and the system, whose Verilog is added to the platform.

    The system is in reset until the PLL has locked, and while the button is pressed.

    Parameters
    ----------
    gateware : Gateware
    settings : tuple
        Of the PLL (:meth:`~.pll.Pll.settings`).
    """

    def __init__(self, gateware: Gateware, settings: tuple[int, int, int, float]):
        self._gateware = gateware
        self._settings = settings

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        gateware, pins = self._gateware, self._gateware.pins

        def pin(direction: str, name: str, number: int = 0) -> Any:
            """The buffer of a pin."""
            m.submodules[f"{name}_{number}"] = buffer = io.Buffer(direction, platform.request(name, number, dir="-"))
            return buffer

        clock, locked = Signal(name="clock"), Signal()
        gateware.add_pll(m, self._settings, pin("i", pins.clock).i, clock, locked)
        m.domains.sync = ClockDomain("sync")
        m.d.comb += ClockSignal().eq(clock)
        platform.add_clock_constraint(clock, self._settings[-1])
        m.submodules.reset = ResetSynchronizer(~locked | pin("i", *pins.button).i, domain="sync")

        uart = platform.request(*pins.uart, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.submodules.system = Instance(
            System.module_name,
            i_clk=ClockSignal(),
            i_rst=ResetSignal(),
            i_rx=rx.i,
            o_tx=tx.o,
            o_busy=pin("o", *pins.busy).o,
            o_error=pin("o", *pins.error).o,
        )
        return m

"""Arty A7-100T: 100 MHz, FTDI's serial port, button 0 as reset, LEDs 0 and 1."""

from typing import Any, ClassVar

from amaranth.build import Platform
from amaranth.hdl import Instance, Module, Signal
from amaranth_boards.arty_a7 import ArtyA7_100Platform

from fusemax.board.catalog import BOARDS

from .board import Gateware, Pins
from .pll import Pll

__all__ = ["ArtyA7100"]


class ArtyA7100(Gateware):
    """See module."""

    board = BOARDS["arty_a7_100"]
    pins = Pins(clock="clk100")
    # Xilinx DS181: PLL of speed grade 1.
    pll = Pll(range(1, 57), range(2, 65), range(1, 129), (19e6, 450e6), (800e6, 1600e6), multiplies_vco=True)
    cells: ClassVar = {
        **{f"LUT{inputs}": ("luts", 1) for inputs in range(1, 7)},
        **{f"RAM{depth}": ("luts", count) for depth, count in (("32M", 4), ("64M", 4), ("32X1D", 2), ("64X1D", 2))},
        **dict.fromkeys(("FDRE", "FDSE", "FDCE", "FDPE"), ("registers", 1)),
        **dict.fromkeys(("SRL16E", "SRLC32E"), ("luts", 1)),
        "DSP48E1": ("multipliers", 1),
        "RAMB18E1": ("ram_blocks", 1),
        "RAMB36E1": ("ram_blocks", 2),
    }
    synthesis = "synth_xilinx -family xc7"
    open_steps = 0

    def platform(self) -> Platform:
        return ArtyA7_100Platform()

    def add_pll(self, m: Module, settings: tuple[int, int, int, float], pin: Any, clock: Any, locked: Any) -> None:
        divider, multiplier, output_divider, _ = settings
        feedback, unbuffered = Signal(), Signal()
        m.submodules.pll = Instance(
            "PLLE2_BASE",
            p_CLKIN1_PERIOD=10.0,
            p_DIVCLK_DIVIDE=divider,
            p_CLKFBOUT_MULT=multiplier,
            p_CLKOUT0_DIVIDE=output_divider,
            i_CLKIN1=pin,
            i_CLKFBIN=feedback,
            i_RST=0,
            i_PWRDWN=0,
            o_CLKFBOUT=feedback,
            o_CLKOUT0=unbuffered,
            o_LOCKED=locked,
        )
        m.submodules.clock_buffer = Instance("BUFG", i_I=unbuffered, o_O=clock)

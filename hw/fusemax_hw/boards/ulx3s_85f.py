"""ULX3S with the largest ECP5: 25 MHz, FTDI's serial port, button FIRE1 as reset, LED 0 busy, LED 1 error."""

from typing import Any, ClassVar

from amaranth.build import Platform
from amaranth.hdl import Instance, Module
from amaranth_boards.ulx3s import ULX3S_85F_Platform

from fusemax.board.catalog import BOARDS

from .board import Gateware, Pins
from .pll import Pll

__all__ = ["Ulx3s85f"]


class Ulx3s85f(Gateware):
    """See module."""

    board = BOARDS["ulx3s_85f"]
    pins = Pins(clock="clk25", button=("button_fire", 0))
    # Lattice FPGA-DS-02012: PLL timing of speed grade 6.
    pll = Pll(range(1, 129), range(1, 81), range(1, 129), phase_detector_hz=(10e6, 400e6), vco_hz=(400e6, 800e6))
    cells: ClassVar = {
        "LUT4": ("luts", 1),
        "CCU2C": ("luts", 2),
        "TRELLIS_DPR16X4": ("luts", 6),
        "TRELLIS_FF": ("registers", 1),
        "MULT18X18D": ("multipliers", 1),
        "DP16KD": ("ram_blocks", 1),
    }
    #: Without multiplexers of several LUTs, which cost more in routing than they save (docs/measurements/area.md).
    synthesis = "synth_ecp5 -nowidelut"
    open_steps = 3

    def platform(self) -> Platform:
        return ULX3S_85F_Platform()

    def add_pll(self, m: Module, settings: tuple[int, int, int, float], pin: Any, clock: Any, locked: Any) -> None:
        divider, multiplier, output_divider, _ = settings
        m.submodules.pll = Instance(
            "EHXPLLL",
            p_CLKI_DIV=divider,
            p_CLKFB_DIV=multiplier,
            p_CLKOP_DIV=output_divider,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_CPHASE=output_divider - 1,
            p_FEEDBK_PATH="CLKOP",
            i_CLKI=pin,
            i_CLKFB=clock,
            i_RST=0,
            i_STDBY=0,
            i_PHASESEL0=0,
            i_PHASESEL1=0,
            i_PHASEDIR=0,
            i_PHASESTEP=0,
            i_PHASELOADREG=0,
            i_PLLWAKESYNC=0,
            i_ENCLKOP=0,
            o_CLKOP=clock,
            o_LOCK=locked,
        )

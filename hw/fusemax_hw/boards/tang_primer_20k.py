"""Tang Primer 20K in its dock, with a Gowin GW2A: 27 MHz, the debugger's serial port, button 0 as reset, LEDs 0 and 1."""

from typing import Any, ClassVar

from amaranth.build import Platform
from amaranth.hdl import Instance, Module
from amaranth_boards.tang_primer_20k import TangPrimer20kDockPlatform

from fusemax.board.catalog import BOARDS

from .board import Gateware, Pins
from .pll import Pll

__all__ = ["TangPrimer20k"]


class TangPrimer20k(Gateware):
    """See module."""

    board = BOARDS["tang_primer_20k"]
    pins = Pins(clock="clk27")
    # Gowin UG286: rPLL of GW2A.
    pll = Pll(range(1, 65), range(1, 65), (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128), (3e6, 500e6), (500e6, 1250e6))
    cells: ClassVar = {
        **{f"LUT{inputs}": ("luts", 1) for inputs in range(1, 5)},
        "ALU": ("luts", 1),
        **{f"RAM16SDP{bits}": ("luts", 2 * bits) for bits in (1, 2, 4)},
        **{f"DFF{kind}": ("registers", 1) for kind in ("", "E", "S", "SE", "R", "RE", "P", "PE", "C", "CE")},
        **{name: ("multipliers", count) for name, count in (("MULT9X9", 1), ("MULT18X18", 1), ("MULT36X36", 4))},
        **dict.fromkeys(("SP", "SPX9", "SDPB", "SDPX9B", "DPB", "DPX9B", "pROM", "pROMX9"), ("ram_blocks", 1)),
    }
    synthesis = "synth_gowin -family gw2a"
    open_steps = 1

    def platform(self) -> Platform:
        return TangPrimer20kDockPlatform()

    def add_pll(self, m: Module, settings: tuple[int, int, int, float], pin: Any, clock: Any, locked: Any) -> None:
        divider, multiplier, output_divider, _ = settings
        m.submodules.pll = Instance(
            "rPLL",
            p_FCLKIN="27",
            p_DEVICE="GW2A-18C",
            p_IDIV_SEL=divider - 1,
            p_FBDIV_SEL=multiplier - 1,
            p_ODIV_SEL=output_divider,
            i_CLKIN=pin,
            i_CLKFB=0,
            i_RESET=0,
            i_RESET_P=0,
            i_FBDSEL=0,
            i_IDSEL=0,
            i_ODSEL=0,
            i_DUTYDA=0,
            i_PSDA=0,
            i_FDLY=0,
            o_CLKOUT=clock,
            o_LOCK=locked,
        )

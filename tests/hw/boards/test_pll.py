"""PLL dividers."""

import pytest
from amaranth.hdl import Module, Signal

from fusemax_hw.boards.build import GATEWARE
from fusemax_hw.boards.pll import Pll

ULX3S = GATEWARE["ulx3s_85f"].pll


@pytest.mark.parametrize(("name", "input_hz"), [("ulx3s_85f", 25e6), ("arty_a7_100", 100e6), ("tang_primer_20k", 27e6)])
def test_a_board_has_its_clock(name, input_hz):
    gateware = GATEWARE[name]
    divider, multiplier, output_divider, hz = gateware.pll.settings(input_hz, gateware.board.clock_hz)
    assert hz == pytest.approx(gateware.board.clock_hz, rel=1e-9)
    feedback = input_hz * multiplier / divider
    vco = feedback if gateware.pll.multiplies_vco else feedback * output_divider
    assert hz == pytest.approx(vco / output_divider)
    assert gateware.pll.vco_hz[0] <= vco <= gateware.pll.vco_hz[1]
    assert gateware.pll.phase_detector_hz[0] <= input_hz / divider <= gateware.pll.phase_detector_hz[1]


def output_over_input(cell, parameters):
    """What the vendors say that a PLL makes of its input."""
    match cell:
        case "EHXPLLL":  # Lattice FPGA-TN-02200, with feedback from the output itself.
            assert parameters["FEEDBK_PATH"] == "CLKOP"
            return parameters["CLKFB_DIV"] / parameters["CLKI_DIV"]
        case "PLLE2_BASE":  # Xilinx UG472.
            return parameters["CLKFBOUT_MULT"] / parameters["DIVCLK_DIVIDE"] / parameters["CLKOUT0_DIVIDE"]
        case "rPLL":  # Gowin UG286.
            return (parameters["FBDIV_SEL"] + 1) / (parameters["IDIV_SEL"] + 1)


@pytest.mark.parametrize(("name", "input_hz"), [("ulx3s_85f", 25e6), ("arty_a7_100", 100e6), ("tang_primer_20k", 27e6)])
def test_the_cell_makes_that_clock(name, input_hz):
    gateware, m = GATEWARE[name], Module()
    gateware.add_pll(m, gateware.pll.settings(input_hz, gateware.board.clock_hz), Signal(), Signal(), Signal())
    ratio = output_over_input(m.submodules.pll.type, m.submodules.pll.parameters)
    assert input_hz * ratio == pytest.approx(gateware.board.clock_hz, rel=1e-9)


@pytest.mark.parametrize("hz", [25e6, 50e6, 62.5e6, 75e6, 87.5e6])
def test_other_clocks(hz):
    assert ULX3S.settings(25e6, hz)[3] == hz


def test_a_clock_that_it_has_not():
    with pytest.raises(
        ValueError, match=r"clock_hz must be one that the PLL makes of 25000000 Hz, not 61000000.0; the nearest is 62500000 Hz"
    ):
        ULX3S.settings(25e6, 61e6)
    nothing = Pll((1,), (1,), (1,), (1e6, 2e6), (1e6, 2e6))
    with pytest.raises(ValueError, match=r"not 50000000.0$"):
        nothing.settings(25e6, 50e6)

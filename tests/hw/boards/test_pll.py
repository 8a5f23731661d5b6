"""PLL dividers."""

import pytest

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

"""A board's top: reset by PLL and button, the line's pins, LEDs; PLL and system are stand-ins."""

from types import SimpleNamespace

import pytest
from amaranth.hdl import Fragment, Module, Signal
from amaranth.lib import io
from amaranth.sim import Simulator

from fusemax_hw.boards import board
from fusemax_hw.boards.board import BoardTop, Pins
from fusemax_hw.boards.system import System


class Rig:
    """Top on a platform whose pins are simulated; some of them are active low, as on real boards."""

    def __init__(self, monkeypatch, inverted):
        self.locked = Signal()
        self.ports = {
            name: io.SimulationPort(direction, 1, invert=invert, name=name)
            for name, direction, invert in (
                ("clk", "i", False),
                ("button", "i", inverted),
                ("led_0", "o", inverted),
                ("led_1", "o", inverted),
                ("rx", "i", False),
                ("tx", "o", False),
            )
        }
        self.constraints = []
        monkeypatch.setattr(board, "Instance", self.instance)
        gateware = SimpleNamespace(pins=Pins(clock="clk"), add_pll=self.add_pll)
        self.simulator = Simulator(Fragment.get(BoardTop(gateware, (1, 2, 3, 62.5e6)), self))

    def add_pll(self, m, settings, pin, clock, locked):
        assert settings == (1, 2, 3, 62.5e6)
        m.d.comb += [clock.eq(pin), locked.eq(self.locked)]

    def instance(self, name, **ports):
        """The system: what comes in is seen, what goes out is driven."""
        assert name == System.module_name
        assert set(ports) == {"i_clk", "i_rst", "i_rx", "o_tx", "o_busy", "o_error"}
        m = Module()
        self.system = {port[2:]: Signal(name=port) for port in ports}
        for port, value in ports.items():
            inner = self.system[port[2:]]
            m.d.comb += inner.eq(value) if port.startswith("i_") else value.eq(inner)
        return m

    def request(self, name, number=0, *, dir):
        assert dir == "-"
        if name == "uart":
            return SimpleNamespace(rx=self.ports["rx"], tx=self.ports["tx"])
        return self.ports[f"led_{number}" if name == "led" else name]

    def add_clock_constraint(self, clock, hz):
        self.constraints.append(hz)

    def run(self, testbench):
        self.simulator.add_testbench(testbench)
        self.simulator.run()


@pytest.mark.parametrize("inverted", [False, True])
def test_reset_line_and_leds(monkeypatch, inverted):
    rig = Rig(monkeypatch, inverted)
    seen = []

    async def testbench(ctx):
        async def cycles(count):
            for level in [1, 0] * count:
                ctx.set(rig.ports["clk"].i, level)
                await ctx.delay(1e-6)

        async def reset_after(count):
            await cycles(count)
            return ctx.get(rig.system["rst"])

        def press(pressed):
            ctx.set(rig.ports["button"].i, pressed ^ inverted)

        press(0)
        assert await reset_after(4) == 1  # The PLL has not locked.
        ctx.set(rig.locked, 1)
        assert await reset_after(4) == 0
        press(1)
        assert await reset_after(1) == 1
        assert await reset_after(9) == 1
        press(0)
        assert await reset_after(4) == 0
        ctx.set(rig.locked, 0)
        assert await reset_after(1) == 1
        for level in (0, 1):
            ctx.set(rig.ports["rx"].i, level)
            assert ctx.get(rig.system["rx"]) == level
        for output, port, inverts in (("busy", "led_0", inverted), ("error", "led_1", inverted), ("tx", "tx", False)):
            for level in (1, 0):
                ctx.set(rig.system[output], level)
                assert ctx.get(rig.ports[port].o) == level ^ inverts, output
        seen.append(True)

    rig.run(testbench)
    assert seen
    assert rig.constraints == [62.5e6]

"""Which memories become instances of fusemax_ram when emitting, and with which parameters. What is refused: see test_emit."""

import re

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax_hw.emit import emit_component
from fusemax_hw.memory.ram import RAM_MODULE


class Holder(wiring.Component):
    """A memory; ``connect`` makes its ports and drives the outputs."""

    def __init__(self, connect, **memory):
        self._connect, self._memory = connect, {"init": [], **memory}
        super().__init__({"address": In(8), "i": In(32), "enable": In(1), "o": Out(32), "o2": Out(32)})

    def elaborate(self, platform) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(**self._memory)
        self._connect(m, self, memory)
        return m


def instances(holder):
    """Parameters of every fusemax_ram in the emitted text."""
    text = emit_component(holder, "holder").modules["holder"]
    found = re.findall(rf"{RAM_MODULE} #\((.*?)\)\s+\S+ \(", text, re.DOTALL)
    return [{name: int(value) for name, value in re.findall(r"\.(\w+)\(32'd(\d+)\)", parameters)} for parameters in found]


def write(m, holder, memory):
    port = memory.write_port()
    m.d.comb += [port.addr.eq(holder.address), port.data.eq(holder.i), port.en.eq(holder.enable)]


def read(m, holder, memory, output="o", **options):
    port = memory.read_port(**options)
    m.d.comb += [port.addr.eq(holder.address), getattr(holder, output).eq(port.data)]


def one_of_each(m, holder, memory):
    write(m, holder, memory)
    read(m, holder, memory)


def two_readers(m, holder, memory):
    one_of_each(m, holder, memory)
    read(m, holder, memory, "o2")


@pytest.mark.parametrize(
    ("connect", "memory", "parameters"),
    [
        (one_of_each, {"shape": 24, "depth": 40}, [{"WIDTH": 24, "DEPTH": 40, "ADDRESS_BITS": 6}]),
        (one_of_each, {"shape": 3, "depth": 64}, [{"WIDTH": 3, "DEPTH": 64, "ADDRESS_BITS": 6}]),
        # Verilog has no ports of no bits.
        (one_of_each, {"shape": 8, "depth": 1}, [{"WIDTH": 8, "DEPTH": 1, "ADDRESS_BITS": 1}]),
        (two_readers, {"shape": 8, "depth": 5}, 2 * [{"WIDTH": 8, "DEPTH": 5, "ADDRESS_BITS": 3}]),
        # Tables of constants are logic.
        (read, {"shape": 8, "depth": 4, "init": [1, 2, 3]}, []),
    ],
)
def test_instances(connect, memory, parameters):
    assert instances(Holder(connect, **memory)) == parameters

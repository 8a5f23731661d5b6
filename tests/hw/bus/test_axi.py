"""The flat AXI ports: names and widths, constants, and streams that pass through unchanged at everybody's own pace."""

from types import SimpleNamespace

import pytest
from amaranth.hdl import Cat, ClockDomain, Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from bench import Bench, pack, unpack

from fusemax.spec import CONFIGS, Config
from fusemax_hw.bus.axi import Axi4Master, AxiLiteSlave, connect_flat, flat_members

ITEMS = 120


class Ports(wiring.Component):
    """Nothing but the flat ports; ``memory`` and ``registers`` are the streams inside."""

    def __init__(self, config):
        self.config = config
        super().__init__(flat_members(config))
        self.memory = Axi4Master(config).create(path=("memory",))
        self.registers = AxiLiteSlave().create(path=("registers",))

    def elaborate(self, platform) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        connect_flat(m, self, self.config, self.memory, self.registers)
        return m


def flat(ports, prefix, *fields):
    """A flat channel as a stream; the payload is the fields side by side."""
    payload = Cat(getattr(ports, prefix + name) for name in fields)
    return SimpleNamespace(valid=getattr(ports, f"{prefix}valid"), ready=getattr(ports, f"{prefix}ready"), payload=payload)


@pytest.mark.parametrize(
    "config", [CONFIGS["tiny"], Config(rows=2, columns=2, bus_bits=32), Config(rows=2, columns=2, bus_bits=1024)]
)
def test_streams_pass(config):
    ports = Ports(config)
    bench = Bench(ports, seed=config.bus_bits)
    memory, registers = ports.memory, ports.registers
    pairs = []

    def join(source, sink):
        bits = Shape.cast(source.payload.shape()).width
        values = [bench.rng.getrandbits(bits) for _ in range(ITEMS)]
        given = bench.source(source, [unpack(source.payload.shape(), value) for value in values], bench.stalls())
        pairs.append((values, sink.payload.shape(), given, bench.sink(sink, bench.stalls())))

    # Fields of the flat ports in the order of the streams'.
    join(memory.ar, flat(ports, "m_axi_ar", "addr", "len"))
    join(memory.aw, flat(ports, "m_axi_aw", "addr", "len"))
    join(memory.w, flat(ports, "m_axi_w", "data", "strb", "last"))
    join(flat(ports, "m_axi_b", "resp"), memory.b)
    join(flat(ports, "m_axi_r", "data", "resp", "last"), memory.r)
    join(flat(ports, "s_axil_aw", "addr"), registers.aw)
    join(flat(ports, "s_axil_w", "data", "strb"), registers.w)
    join(registers.b, flat(ports, "s_axil_b", "resp"))
    join(flat(ports, "s_axil_ar", "addr"), registers.ar)
    join(registers.r, flat(ports, "s_axil_r", "data", "resp"))

    def see(name, expected):
        def check(value):
            assert value == expected, name

        bench.watch(getattr(ports, f"m_axi_{name}"), check)

    for channel in ("ar", "aw"):
        for name, value in (("id", 0), ("burst", 1), ("lock", 0), ("cache", 3), ("prot", 0)):
            see(channel + name, value)
        see(f"{channel}size", config.bus_bytes.bit_length() - 1)

    bench.run(lambda: all(not given.items for _, _, given, _ in pairs), limit=4000)
    for values, shape, _, taken in pairs:
        assert [pack(shape, item) for item in taken.received] == values


def test_ports():
    """Names and widths that AXI tools look for."""
    members = {name: (member.flow, member.shape) for name, member in flat_members(CONFIGS["base"]).items()}
    assert len(members) == 35 + 19
    assert members["m_axi_araddr"] == (Out, 40)
    assert members["m_axi_rdata"] == (In, 128)
    assert members["m_axi_wstrb"] == (Out, 16)
    assert members["m_axi_awvalid"] == (Out, 1)
    assert members["m_axi_awready"] == (In, 1)
    assert members["s_axil_awaddr"] == (In, 12)
    assert members["s_axil_wstrb"] == (In, 4)
    assert members["s_axil_rvalid"] == (Out, 1)
    assert members["s_axil_bready"] == (In, 1)

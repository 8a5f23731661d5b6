"""AXI4 master and AXI4-Lite slave ports as streams, and their flat names in the emitted Verilog.

The master uses one identifier (0), incrementing bursts of whole bus words, and no locks or caches; the fields that are
constant are not in the streams and are added where the flat ports are made.
"""

from amaranth.hdl import Const, Module, Signal, ValueLike, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from fusemax.spec import Config

__all__ = ["Axi4Master", "AxiLiteSlave", "burst_layout", "flat_ports", "read_layout", "write_layout"]

PortList = dict[str, tuple[ValueLike, str]]


def burst_layout(config: Config) -> data.StructLayout:
    """Address channel: a burst of ``length + 1`` bus words."""
    return data.StructLayout({"address": unsigned(config.address_bits), "length": unsigned(8)})


def read_layout(config: Config) -> data.StructLayout:
    """Read data channel."""
    return data.StructLayout({"data": config.bus_bits, "response": 2, "last": 1})


def write_layout(config: Config) -> data.StructLayout:
    """Write data channel."""
    return data.StructLayout({"data": config.bus_bits, "strobe": config.bus_bytes, "last": 1})


class Axi4Master(wiring.Signature):
    """Read and write channels, seen from the master."""

    def __init__(self, config: Config):
        super().__init__(
            {
                "ar": Out(stream.Signature(burst_layout(config))),
                "r": In(stream.Signature(read_layout(config))),
                "aw": Out(stream.Signature(burst_layout(config))),
                "w": Out(stream.Signature(write_layout(config))),
                "b": In(stream.Signature(unsigned(2))),
            }
        )


class AxiLiteSlave(wiring.Signature):
    """AXI4-Lite with 32-bit data and 12-bit addresses, seen from the slave."""

    def __init__(self):
        super().__init__(
            {
                "aw": In(stream.Signature(unsigned(12))),
                "w": In(stream.Signature(data.StructLayout({"data": 32, "strobe": 4}))),
                "b": Out(stream.Signature(unsigned(2))),
                "ar": In(stream.Signature(unsigned(12))),
                "r": Out(stream.Signature(data.StructLayout({"data": 32, "response": 2}))),
            }
        )


def flat_ports(m: Module, config: Config, memory, registers) -> PortList:
    """Ports under the names that AXI tools expect: ``m_axi_*`` and ``s_axil_*``.

    Returns name → (value, direction "i" or "o"). Inputs that the machine does not use (identifiers, protection) exist.
    """
    ports: PortList = {}

    def give(name: str, value: ValueLike) -> None:
        signal = Signal.like(value, name=name)
        m.d.comb += signal.eq(value)
        ports[name] = (signal, "o")

    def take(name: str, value) -> None:
        signal = Signal.like(value, name=name)
        m.d.comb += value.eq(signal)
        ports[name] = (signal, "i")

    def ignore(name: str, bits: int) -> None:
        ports[name] = (Signal(bits, name=name), "i")

    word_log2 = (config.bus_bytes - 1).bit_length()
    for prefix, channel in (("m_axi_ar", memory.ar), ("m_axi_aw", memory.aw)):
        give(f"{prefix}id", Const(0, 1))
        give(f"{prefix}addr", channel.payload.address)
        give(f"{prefix}len", channel.payload.length)
        give(f"{prefix}size", Const(word_log2, 3))
        give(f"{prefix}burst", Const(1, 2))
        give(f"{prefix}lock", Const(0, 1))
        give(f"{prefix}cache", Const(3, 4))
        give(f"{prefix}prot", Const(0, 3))
        give(f"{prefix}valid", channel.valid)
        take(f"{prefix}ready", channel.ready)
    ignore("m_axi_rid", 1)
    take("m_axi_rdata", memory.r.payload.data)
    take("m_axi_rresp", memory.r.payload.response)
    take("m_axi_rlast", memory.r.payload.last)
    take("m_axi_rvalid", memory.r.valid)
    give("m_axi_rready", memory.r.ready)
    give("m_axi_wdata", memory.w.payload.data)
    give("m_axi_wstrb", memory.w.payload.strobe)
    give("m_axi_wlast", memory.w.payload.last)
    give("m_axi_wvalid", memory.w.valid)
    take("m_axi_wready", memory.w.ready)
    ignore("m_axi_bid", 1)
    take("m_axi_bresp", memory.b.payload)
    take("m_axi_bvalid", memory.b.valid)
    give("m_axi_bready", memory.b.ready)

    for prefix, channel in (("s_axil_aw", registers.aw), ("s_axil_ar", registers.ar)):
        take(f"{prefix}addr", channel.payload)
        ignore(f"{prefix}prot", 3)
        take(f"{prefix}valid", channel.valid)
        give(f"{prefix}ready", channel.ready)
    take("s_axil_wdata", registers.w.payload.data)
    take("s_axil_wstrb", registers.w.payload.strobe)
    take("s_axil_wvalid", registers.w.valid)
    give("s_axil_wready", registers.w.ready)
    give("s_axil_bresp", registers.b.payload)
    give("s_axil_bvalid", registers.b.valid)
    take("s_axil_bready", registers.b.ready)
    give("s_axil_rdata", registers.r.payload.data)
    give("s_axil_rresp", registers.r.payload.response)
    give("s_axil_rvalid", registers.r.valid)
    take("s_axil_rready", registers.r.ready)
    return ports

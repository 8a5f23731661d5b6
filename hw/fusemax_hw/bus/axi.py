"""AXI4 master and AXI4-Lite slave ports as streams, and their flat names in the emitted Verilog.

The master uses one identifier (0), incrementing bursts of whole bus words, and no locks or caches; the fields that are
constant are not in the streams and are added where the flat ports are made.
"""

from typing import Any

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Member, Out
from amaranth.utils import exact_log2

from fusemax.spec import Config

__all__ = ["Axi4Master", "AxiLiteSlave", "burst_layout", "connect_flat", "flat_members", "read_layout", "write_layout"]


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


def flat_members(config: Config) -> dict[str, Member]:
    """Ports under the names that AXI tools expect, ``m_axi_*`` and ``s_axil_*``; identifiers and protection exist, unused."""
    address = {"id": 1, "addr": config.address_bits, "len": 8, "size": 3, "burst": 2, "lock": 1, "cache": 4, "prot": 3}
    master: dict[str, Member] = {}
    for channel in ("ar", "aw"):
        master |= {channel + name: Out(bits) for name, bits in (address | {"valid": 1}).items()} | {channel + "ready": In(1)}
    master |= {name: Out(bits) for name, bits in (("wdata", config.bus_bits), ("wstrb", config.bus_bytes), ("wlast", 1))}
    master |= {"wvalid": Out(1), "wready": In(1), "bid": In(1), "bresp": In(2), "bvalid": In(1), "bready": Out(1)}
    master |= {"rid": In(1), "rdata": In(config.bus_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1), "rready": Out(1)}
    slave: dict[str, Member] = {}
    for channel in ("ar", "aw"):
        slave |= {channel + "addr": In(12), channel + "prot": In(3), channel + "valid": In(1), channel + "ready": Out(1)}
    slave |= {"wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1)}
    slave |= {"bresp": Out(2), "bvalid": Out(1), "bready": In(1)}
    slave |= {"rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1)}
    return {f"m_axi_{name}": member for name, member in master.items()} | {
        f"s_axil_{name}": member for name, member in slave.items()
    }


def connect_flat(m: Module, flat: Any, config: Config, memory: Any, registers: Any) -> None:
    """Join the flat ports of ``flat`` to a master's and a slave's streams (interfaces of the parts inside)."""

    def handshake(source: Any, sink: Any) -> list[Any]:
        return [sink.valid.eq(source.valid), source.ready.eq(sink.ready)]

    class Flat:
        """The valid and ready of a flat channel."""

        def __init__(self, prefix: str):
            self.valid, self.ready = getattr(flat, prefix + "valid"), getattr(flat, prefix + "ready")

    for channel in ("ar", "aw"):
        stream_, prefix = getattr(memory, channel), f"m_axi_{channel}"
        constants = {"size": exact_log2(config.bus_bytes), "burst": 1, "cache": 3}
        m.d.comb += [
            getattr(flat, f"{prefix}addr").eq(stream_.payload.address),
            getattr(flat, f"{prefix}len").eq(stream_.payload.length),
            *(getattr(flat, f"{prefix}{name}").eq(value) for name, value in constants.items()),
            *handshake(stream_, Flat(prefix)),
            getattr(registers, channel).payload.eq(getattr(flat, f"s_axil_{channel}addr")),
            *handshake(Flat(f"s_axil_{channel}"), getattr(registers, channel)),
        ]
    m.d.comb += [
        flat.m_axi_wdata.eq(memory.w.payload.data),
        flat.m_axi_wstrb.eq(memory.w.payload.strobe),
        flat.m_axi_wlast.eq(memory.w.payload.last),
        *handshake(memory.w, Flat("m_axi_w")),
        memory.b.payload.eq(flat.m_axi_bresp),
        *handshake(Flat("m_axi_b"), memory.b),
        memory.r.payload.data.eq(flat.m_axi_rdata),
        memory.r.payload.response.eq(flat.m_axi_rresp),
        memory.r.payload.last.eq(flat.m_axi_rlast),
        *handshake(Flat("m_axi_r"), memory.r),
        registers.w.payload.data.eq(flat.s_axil_wdata),
        registers.w.payload.strobe.eq(flat.s_axil_wstrb),
        *handshake(Flat("s_axil_w"), registers.w),
        flat.s_axil_bresp.eq(registers.b.payload),
        *handshake(registers.b, Flat("s_axil_b")),
        flat.s_axil_rdata.eq(registers.r.payload.data),
        flat.s_axil_rresp.eq(registers.r.payload.response),
        *handshake(registers.r, Flat("s_axil_r")),
    ]

"""Memories with a write port as instances of one Verilog module, ``fusemax_ram``, which an ASIC flow replaces.

The module has one write port and one synchronous read port with an enable, both on one clock. Read data holds
while the read is not enabled. What is read of a word in the cycle in which it is written does not matter.
"""

from typing import Any

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib.memory import Memory

__all__ = ["RAM_FILE", "RAM_MODULE", "ram"]

RAM_MODULE = "fusemax_ram"
#: Its Verilog, beside this file.
RAM_FILE = "fusemax_ram.v"


def ram(memory: Memory) -> Any:
    """Implementation of ``memory``: an instance of ``fusemax_ram`` per read port.

    Memories that are never written (tables of constants) stay as Amaranth writes them: they are logic.

    Raises
    ------
    ValueError
        If the memory has more than one write port, write enables for parts of words, initial contents, ports on different
        clocks, a read port that is transparent or has no clock, or no read port at all.
    """
    reads, writes = memory.read_ports, memory.write_ports
    if not writes:
        return Memory.elaborate(memory, None)
    (write, *others) = writes
    if others:
        raise ValueError(f"a memory must have one write port, not {len(writes)}")
    if not reads:
        raise ValueError("a memory must have a read port")
    if len(write.en) != 1:
        raise ValueError(f"a memory must have one write enable, not {len(write.en)}")
    if any(memory.init):
        raise ValueError("a memory that is written must not have initial contents")
    if any(port.transparent_for for port in reads):
        raise ValueError("a memory must not be transparent: what is read while it is written does not matter")
    if any(port.domain == "comb" for port in reads):
        raise ValueError("a memory must be read with a clock: a word of it is there in the cycle after its address")
    if any(port.domain != write.domain for port in reads):
        raise ValueError(
            f"a memory's ports must be on one clock, not {sorted({write.domain, *(port.domain for port in reads)})}"
        )

    def address(value: Value) -> Value:
        # A memory of one word has an address of no bits, which Verilog has not.
        return value if len(value) else Const(0, 1)

    m = Module()
    for index, read in enumerate(reads):
        data = Signal(len(Value.cast(read.data)), name=f"read_data_{index}")
        m.submodules[f"ram_{index}"] = Instance(
            RAM_MODULE,
            p_WIDTH=len(data),
            p_DEPTH=memory.depth,
            p_ADDRESS_BITS=len(address(read.addr)),
            i_clk=ClockSignal(write.domain),
            i_write_enable=write.en,
            i_write_address=address(write.addr),
            i_write_data=Value.cast(write.data),
            i_read_enable=read.en,
            i_read_address=address(read.addr),
            o_read_data=data,
        )
        m.d.comb += Value.cast(read.data).eq(data)
    return m

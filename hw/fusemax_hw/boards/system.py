"""What is in the FPGA, whatever the board: machine, memory, host bridge."""

from dataclasses import replace
from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from fusemax.spec import Config

from ..bridge.bridge import Bridge
from ..bus.bursts import PAGE_BYTES
from ..memory.block_memory import BlockMemory
from ..top import Machine

__all__ = ["System"]

#: Least width of an address: of a page, and of the register space.
ADDRESS_BITS = 12


class System(wiring.Component):
    """Join a machine with memory of its own and a serial line.

    The protocol of the line is in docs/reference/bridge.md. A reset that the host asks for empties everything but the bridge;
    what is in memory stays. The host goes first where it and the machine want the memory at once.

    Parameters
    ----------
    config : Config
        Of the machine; its addresses are as wide as the memory needs.
    memory_bytes : int
        Size of the memory, a multiple of 4096.
    divisor : int
        Clock cycles per bit of the line.

    Members
    -------
    rx : In(1)
        The line from the host; any phase.
    tx : Out(1)
        The line to the host.
    busy : Out(1)
        Jobs are under way.
    error : Out(1)
        The machine has stopped.

    Raises
    ------
    TypeError, ValueError
        If a parameter is out of its range.
    """

    module_name = "fusemax_system"

    def __init__(self, config: Config, *, memory_bytes: int, divisor: int):
        if not isinstance(memory_bytes, int) or isinstance(memory_bytes, bool):
            raise TypeError(f"memory_bytes must be an integer, not {memory_bytes!r}")
        # The bridge would say the same of its own unit and limit, and the limit follows from the width of the addresses below.
        most = (1 << 32) - PAGE_BYTES
        if not PAGE_BYTES <= memory_bytes <= most or memory_bytes % PAGE_BYTES:
            raise ValueError(f"memory_bytes must be a multiple of {PAGE_BYTES} from {PAGE_BYTES} to {most}, not {memory_bytes}")
        # One bit more than the memory needs, so that what is behind it can be told.
        self.config = config = replace(config, address_bits=max(ADDRESS_BITS, memory_bytes.bit_length()))
        self._bridge = Bridge(config, divisor=divisor, memory_bytes=memory_bytes)
        self._memory = BlockMemory(config, memory_bytes)
        super().__init__({"rx": In(1), "tx": Out(1), "busy": Out(1), "error": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.domains.system = domain = ClockDomain("system", local=True)
        m.submodules.bridge = bridge = self._bridge
        inside = DomainRenamer("system")
        machine, memory = Machine(self.config), self._memory
        m.submodules.machine = inside(machine)
        m.submodules.memory = inside(memory)
        connect(m, bridge.memory, memory.ports[0])
        connect(m, machine.memory, memory.ports[1])
        connect(m, bridge.registers, machine.registers)
        m.d.comb += [
            domain.clk.eq(ClockSignal()),
            domain.rst.eq(ResetSignal() | bridge.reset),
            bridge.rx.eq(self.rx),
            self.tx.eq(bridge.tx),
            bridge.irq.eq(machine.irq),
            self.busy.eq(machine.busy),
            self.error.eq(machine.error),
        ]
        return m

"""Table of the jobs that completed last (fusemax.spec.JOB_ENTRY)."""

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import JOB_ENTRY, JOB_TABLE_ENTRIES

__all__ = ["JobTable"]


class JobTable(wiring.Component):
    """When each of the latest jobs was complete, and what was seen since the one before.

    Parameters
    ----------
    cycles_bits : int
        Bits of the cycle counter.

    Members
    -------
    write, index, cycles : In
        A job is complete: its index, and the cycle counter.
    nonfinite, overflow : In(1)
        Seen in this cycle.
    clear : In(1)
        Nothing was seen.
    read_index : In
    entry : Out(JOB_ENTRY.bits)
        The entry at ``read_index``, in the same cycle.
    """

    def __init__(self, cycles_bits: int):
        index_bits = (JOB_TABLE_ENTRIES - 1).bit_length()
        self._layout = data.StructLayout({"cycles": cycles_bits, "nonfinite": 1, "overflow": 1})
        super().__init__(
            {
                "write": In(1),
                "index": In(index_bits),
                "cycles": In(cycles_bits),
                "nonfinite": In(1),
                "overflow": In(1),
                "clear": In(1),
                "read_index": In(index_bits),
                "entry": Out(JOB_ENTRY.bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self._layout.size), depth=JOB_TABLE_ENTRIES, init=[])
        write, read = memory.write_port(), memory.read_port(domain="comb")
        new, seen = Signal(self._layout), {}
        for name in ("nonfinite", "overflow"):
            seen[name] = Signal(name=f"{name}_seen")
            m.d.sync += seen[name].eq((getattr(self, name) | (seen[name] & ~self.write)) & ~self.clear)
            m.d.comb += new[name].eq(seen[name])
        m.d.comb += [
            new.cycles.eq(self.cycles),
            write.en.eq(self.write),
            write.addr.eq(self.index),
            write.data.eq(new),
            read.addr.eq(self.read_index),
            self.entry.eq(read.data),
        ]
        return m

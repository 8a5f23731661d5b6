"""Table of the jobs that completed last (fusemax.spec.JOB_ENTRY)."""

from typing import Any

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from fusemax.spec import JOB_ENTRY, JOB_TABLE_ENTRIES, clog2

__all__ = ["JobTable"]


class JobTable(wiring.Component):
    """Table of when each of the latest jobs was complete.

    An entry also tells what was seen since the job before. One entry is written and one is read per cycle; an entry that is
    read in the cycle in which it is written is the new one. Entries read as zero until they are written.

    Parameters
    ----------
    cycles_bits : int
        Bits of the cycle counter.

    Members
    -------
    write : In(1)
        A job is complete.
    index : In(4)
        Entry of that job; counts while ``write`` is high.
    cycles : In(cycles_bits)
        Cycle counter, likewise.
    nonfinite, overflow : In(1)
        Seen in this cycle; for the entry that is written next, from the cycle after on.
    clear : In(1)
        Nothing was seen.
    read : In(1)
        An entry is wanted.
    read_index : In(4)
        Which one; counts while ``read`` is high.
    entry : Out(JOB_ENTRY.bits)
        That entry, in the cycle after ``read``.
    """

    def __init__(self, cycles_bits: int):
        index_bits = clog2(JOB_TABLE_ENTRIES)
        self._layout = data.StructLayout({"cycles": cycles_bits, "nonfinite": 1, "overflow": 1})
        super().__init__(
            {
                "write": In(1),
                "index": In(index_bits),
                "cycles": In(cycles_bits),
                "nonfinite": In(1),
                "overflow": In(1),
                "clear": In(1),
                "read": In(1),
                "read_index": In(index_bits),
                "entry": Out(JOB_ENTRY.bits),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self._layout.size), depth=JOB_TABLE_ENTRIES, init=[])
        write, read = memory.write_port(), memory.read_port()
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
            read.en.eq(self.read),
            read.addr.eq(self.read_index),
        ]

        # The memory promises neither contents before a write, nor what is read of a word while it is written.
        written = Signal(JOB_TABLE_ENTRIES)
        latest = Signal(self._layout)
        with m.If(self.write):
            m.d.sync += [written.bit_select(self.index, 1).eq(1), latest.eq(new)]
        known, is_latest = Signal(), Signal()
        m.d.sync += [
            known.eq(written.bit_select(self.read_index, 1)),
            is_latest.eq(self.write & (self.index == self.read_index)),
        ]
        m.d.comb += self.entry.eq(Mux(is_latest, latest, Mux(known, read.data, 0)))
        return m

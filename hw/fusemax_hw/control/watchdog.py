"""Watchdog: for how long nothing has happened."""

from typing import Any

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Watchdog"]


class Watchdog(wiring.Component):
    """Count the quiet cycles in a row, up to a limit.

    Members
    -------
    limit : In(32)
        How many are too many; 0 for never. Another limit begins anew.
    quiet : In(1)
        This cycle is quiet.
    expired : Out(1)
        In the second cycle behind the last of ``limit`` quiet ones. Once; after a cycle that is not quiet, perhaps again.
    """

    limit: In(32)
    quiet: In(1)
    expired: Out(1)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        left, limit, enabled = Signal(32), Signal(32), Signal()
        changed = Signal()
        m.d.sync += [limit.eq(self.limit), enabled.eq(self.limit != 0), changed.eq(self.limit != limit)]
        with m.If(~self.quiet | changed):
            m.d.sync += left.eq(limit)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        m.d.sync += self.expired.eq(self.quiet & enabled & ~changed & (left == 1))
        return m

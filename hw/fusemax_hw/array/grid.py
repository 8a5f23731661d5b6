# amaranth: UnusedElaboratable=no
"""Grid of PEs.

When emitting, of equal blocks only the first is elaborated; hence the line at the top.
"""

from typing import Any

from amaranth.hdl import Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..pe import Pe
from ..shared_modules import instantiate
from ..words import north_bus, partial_bus, west_bus
from .halves import halve, slices

__all__ = ["Grid"]


class Grid(wiring.Component):
    """``rows`` × ``columns`` PEs, built of two halves of the longer side.

    Parameters
    ----------
    config : Config
        Machine.
    rows, columns : int
        Size; more than one PE.

    Members
    -------
    west, east : bits of ``rows`` west_bus
        West operands of the first column; behind the last.
    north, south : bits of ``columns`` north_bus
        North operands of the topmost row; behind the last.
    partial, partial_out : bits of ``columns`` partial_bus
        Partial values above the topmost row; behind the last.

    Entries lie one after the other in plain bits, for the reason given in :class:`~fusemax_hw.array.halves.Chain`.

    Raises
    ------
    ValueError
        If the size is less than two PEs.
    """

    def __init__(self, config: Config, rows: int, columns: int):
        if rows < 1 or columns < 1 or rows * columns < 2:
            raise ValueError(f"rows and columns must be at least 1 and not both 1, not {rows!r} and {columns!r}")
        self._config, self._rows, self._columns = config, rows, columns
        self.module_name = f"fusemax_grid_{rows}x{columns}"
        west, north, partial = (
            count * layout(config).size for layout, count in ((west_bus, rows), (north_bus, columns), (partial_bus, columns))
        )
        super().__init__(
            {
                "west": In(west),
                "east": Out(west),
                "north": In(north),
                "south": Out(north),
                "partial": In(partial),
                "partial_out": Out(partial),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        stacked = self._rows >= self._columns
        sizes = halve(self._rows if stacked else self._columns)
        halves = []
        for name, size in zip(("upper", "lower") if stacked else ("left", "right"), sizes, strict=True):
            rows, columns = (size, self._columns) if stacked else (self._rows, size)
            part = Pe(self._config) if rows == columns == 1 else Grid(self._config, rows, columns)
            halves.append(instantiate(m, name, part, platform))
        first, second = halves

        # Buses that run through both halves, and buses of which each half has its share.
        vertical, horizontal = [("north", "south"), ("partial", "partial_out")], [("west", "east")]
        through, shared = (vertical, horizontal) if stacked else (horizontal, vertical)
        for entry, leave in through:
            m.d.comb += [
                Value.cast(getattr(first, entry)).eq(Value.cast(getattr(self, entry))),
                Value.cast(getattr(second, entry)).eq(Value.cast(getattr(first, leave))),
                Value.cast(getattr(self, leave)).eq(Value.cast(getattr(second, leave))),
            ]
        for entry, leave in shared:
            entries, leaves = slices(getattr(self, entry), sizes), slices(getattr(self, leave), sizes)
            for half, entry_part, leave_part in zip(halves, entries, leaves, strict=True):
                m.d.comb += [
                    Value.cast(getattr(half, entry)).eq(entry_part),
                    leave_part.eq(Value.cast(getattr(half, leave))),
                ]
        return m

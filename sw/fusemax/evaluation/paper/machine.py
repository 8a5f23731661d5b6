"""What a cascade is mapped to."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["FLAT_MACHINE", "FUSEMAX_MACHINE", "MIB", "WORD_BYTES", "Machine", "Operation", "Unit"]

MIB = 1 << 20
#: Bytes of a word: 16 bits.
WORD_BYTES = 2


class Unit(enum.Enum):
    """Part of a machine that evaluates Einsums."""

    #: 2D array of rows × columns PEs.
    ARRAY = "2d"
    #: 1D array of lanes.
    LANES = "1d"


class Operation(enum.Enum):
    """Operation of a PE or lane."""

    #: Multiply-accumulate.
    MAC = "mac"
    ADD = "add"
    MAX = "max"
    #: Exponential in a unit of its own, as FLAT has one.
    EXP = "exp"
    DIVIDE = "divide"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An array, its lanes, a buffer and a memory.

    Members
    -------
    rows, columns, lanes
        PEs of the 2D and of the 1D array.
    frequency_hz, bytes_per_second
        Clock, and bandwidth of the memory.
    buffer_bytes
        Size of the buffer on chip.
    duplex
        Reads and writes of the memory have a channel each.
    read_latency_s, outstanding_reads
        Read latency of the memory, and requests that may be under way at a time.
    """

    rows: int
    columns: int
    lanes: int
    frequency_hz: float
    bytes_per_second: float
    buffer_bytes: int
    duplex: bool = False
    read_latency_s: float = 0.0
    outstanding_reads: int = 1

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "lanes", "frequency_hz", "bytes_per_second", "buffer_bytes", "outstanding_reads"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name} must be greater than 0, not {value!r}")

    def places(self, unit: Unit) -> tuple[int, ...]:
        """Places along each dimension of a unit."""
        return (self.rows, self.columns) if unit is Unit.ARRAY else (self.lanes,)


#: The published design (Nayak et al., MICRO 2024, section V) with 256 × 256 PEs, 16 MiB, 400 GiB/s.
FUSEMAX_MACHINE = Machine(
    rows=256, columns=256, lanes=256, frequency_hz=940e6, bytes_per_second=400 * 2**30, buffer_bytes=16 * MIB
)
#: The same for its baselines, whose buffer is twice as large.
FLAT_MACHINE = Machine(
    rows=256, columns=256, lanes=256, frequency_hz=940e6, bytes_per_second=400 * 2**30, buffer_bytes=32 * MIB
)

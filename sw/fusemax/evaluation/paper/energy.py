"""Energy of what a plan does, by the artifact's method (45 nm, 16-bit words)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .cost import Cost
from .machine import MIB, Machine, Operation, Unit

__all__ = ["Energy", "energy_of", "wrapped"]


#: pJ of an operation.
OPERATION_PJ: Mapping[Operation, float] = MappingProxyType(
    {
        Operation.MAC: 17.1645,
        Operation.ADD: 8.3395,
        Operation.MAX: 0.028036,
        Operation.EXP: 94.6475,
        Operation.DIVIDE: 36.251153,
    }
)
#: pJ of reading and of writing a row of the buffer, by the buffer's size.
BUFFER_PJ: Mapping[int, tuple[float, float]] = MappingProxyType(
    {16 * MIB: (12512.760572, 15751.460572), 32 * MIB: (23854.664592, 27097.564592)}
)
BUFFER_ROW_WORDS = 256
#: pJ of a byte of the memory: 249.6 for 8 bytes.
MEMORY_PJ = 249.6 / 8


@dataclass(frozen=True, kw_only=True)
class Energy:
    """Energy in pJ.

    ``total_pj`` is what the artifact bills. Of it, ``wrapped_pj`` is for reads that do not take place; ``unbilled_pj`` is not
    in it, although the operations take place. Register files are in neither (docs/measurements/paper.md).
    """

    memory_pj: float
    buffer_pj: float
    array_pj: float
    lanes_pj: float
    wrapped_pj: float
    unbilled_pj: float

    @property
    def total_pj(self) -> float:
        return self.memory_pj + self.buffer_pj + self.array_pj + self.lanes_pj + self.wrapped_pj

    @property
    def without_wraps_pj(self) -> float:
        return self.total_pj - self.wrapped_pj

    def __add__(self, other: Energy) -> Energy:
        return Energy(**{name: value + getattr(other, name) for name, value in vars(self).items()})


def energy_of(cost: Cost, machine: Machine) -> Energy:
    """Energy of a cost on the machine that it was computed for.

    Raises
    ------
    ValueError
        If the energy of the machine's buffer is not known.
    """
    if machine.buffer_bytes not in BUFFER_PJ:
        sizes = " or ".join(f"{size}" for size in BUFFER_PJ)
        raise ValueError(f"buffer_bytes must be {sizes}, not {machine.buffer_bytes!r}")
    read_pj, write_pj = (row / BUFFER_ROW_WORDS for row in BUFFER_PJ[machine.buffer_bytes])

    def operations(unit: Unit) -> float:
        return sum(OPERATION_PJ[operation] * count for operation, count in cost.operations[unit].items())

    return Energy(
        memory_pj=MEMORY_PJ * cost.traffic_bytes,
        buffer_pj=read_pj * cost.buffer_reads + write_pj * cost.buffer_writes,
        array_pj=operations(Unit.ARRAY),
        lanes_pj=operations(Unit.LANES),
        wrapped_pj=read_pj * cost.wrapped_reads,
        unbilled_pj=sum(OPERATION_PJ[operation] * count for operation, count in cost.unbilled.items()),
    )


def wrapped(words: int, tile: int) -> int:
    """Reads that the artifact bills although it means to elide them.

    The first read of a sum that starts at zero is elided. The artifact's model forms the number of such reads, which is
    ``words``, as ``words·tile // tile`` in 64 bits: when the product wraps, some of the reads are billed.
    """
    return words - words * tile % (1 << 64) // tile

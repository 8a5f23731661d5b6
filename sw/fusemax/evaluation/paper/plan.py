"""Cascade, mapping and binding: what is computed where, in which order, and what moves meanwhile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .machine import Machine, Operation, Unit
from .ranks import Ranks

__all__ = ["Move", "Phase", "Stage", "Work"]


@dataclass(frozen=True)
class Work:
    """An Einsum, bound to a unit.

    Members
    -------
    einsum
        Name of the tensor that it gives.
    ranks
        Ranks of its iteration space (see :class:`fusemax.evaluation.paper.Ranks`).
    unit
        Where it is evaluated.
    space
        Ranks along the dimensions of the unit; all other ones are in time.
    operations
        Operations of each point.
    slots
        Issue slots of each point; as many as operations if not given, 0 if it is issued beside something else.
    unbilled
        Operations that the artifact's energy leaves out by mistake.
    """

    einsum: str
    ranks: str
    unit: Unit
    space: str
    operations: Mapping[Operation, int]
    slots: int | None = None
    unbilled: tuple[Operation, ...] = ()

    @property
    def slots_per_point(self) -> int:
        return sum(self.operations.values()) if self.slots is None else self.slots

    def cycles(self, ranks: Ranks, machine: Machine) -> int:
        """Cycles that the unit is taken."""
        space = dict(zip(self.space.split(), machine.places(self.unit), strict=True))
        return ranks.steps(self.ranks, space) * self.slots_per_point

    def useful_cycles(self, ranks: Ranks, machine: Machine) -> float:
        """Cycles that it would take if no PE of the unit were idle."""
        places = 1
        for count in machine.places(self.unit):
            places *= count
        return ranks.count(self.ranks) * self.slots_per_point / places


@dataclass(frozen=True)
class Phase:
    """Einsums between two points at which the units wait for each other.

    The works of a unit follow one another, the units work side by side. Then nothing is issued for ``stall_cycles`` cycles in
    each point of the ranks that ``stall`` names.
    """

    works: tuple[Work, ...]
    stall: str = ""
    stall_cycles: int = 1

    def cycles(self, ranks: Ranks, machine: Machine) -> int:
        busy = dict.fromkeys(Unit, 0)
        for work in self.works:
            busy[work.unit] += work.cycles(ranks, machine)
        return max(busy.values()) + (ranks.count(self.stall) * self.stall_cycles if self.stall else 0)


@dataclass(frozen=True, kw_only=True)
class Move:
    """What moves of a tensor, in 16-bit words: between memory and buffer, and between buffer and units.

    ``requests`` are the bursts of the memory reads; they matter only on a machine with a read latency. ``wrapped_reads`` are
    reads of the buffer that the artifact bills although they do not take place (:func:`.energy.wrapped`).
    """

    tensor: str
    memory_reads: float = 0
    memory_writes: float = 0
    requests: float = 0
    buffer_reads: float = 0
    buffer_writes: float = 0
    wrapped_reads: float = 0


@dataclass(frozen=True)
class Stage:
    """Phases one after the other, tile by tile, while the memory moves what they need: the longer of the two counts.

    Stages follow one another. What does not overlap is zero in the paper's designs:

    Members
    -------
    lead_cycles
        The units wait for the first loads.
    trail_cycles
        The units work on what was loaded last.
    latency_cycles
        Neither does anything, or what it does is not in the phases and moves.
    """

    name: str
    ranks: Ranks
    phases: tuple[Phase, ...]
    moves: tuple[Move, ...]
    lead_cycles: int = field(default=0, kw_only=True)
    trail_cycles: int = field(default=0, kw_only=True)
    latency_cycles: int = field(default=0, kw_only=True)

"""Latencies of the hardware's parts and the minimum distances between operations that follow from them.

The parts in ``fusemax_hw`` take their register stages from here and assert them; the scheduler takes its
distances from here: there is one timetable.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol

from .integers import ceil_div

__all__ = ["Port", "Sizes", "Timing"]


class Port(enum.Enum):
    """A way in which a PE's operation reads one of its registers; :meth:`Timing.read_stage` says when."""

    #: Hold register: score of EXP and LIN, weight of SET, ADD, SUM, SLNV and ENT.
    HOLD = "hold"
    #: Accumulator, a slice of it as ENT's factor.
    SLICE = "slice"
    #: Accumulator, its sign: ADD with ``first``.
    SIGN = "sign"
    #: Accumulator: QK and ADD add to it, MAX compares and moves it.
    SCORE = "score"
    #: Mask bit beside the accumulator: MAX and SET move it.
    VISIBLE = "visible"


class Sizes(Protocol):
    """What the latencies depend on; a :class:`~.config.Config` has it."""

    @property
    def rows(self) -> int: ...

    @property
    def pe_latency(self) -> int: ...

    @property
    def holds(self) -> int: ...


@dataclass(frozen=True)
class Timing:
    """Cycles of one configuration.

    A word that is at the corner in cycle t has its operands at PE (r, c) in cycle t + feeder + r + c; the PE's
    last stage works in cycle t + feeder + r + c + pe_latency - 1; the partial value is at lane c in cycle
    t + feeder + rows + c + pe_latency - 1.
    """

    config: Sizes

    #: West and north feeder: bank read, element select, operand.
    feeder: int = 3
    #: Lane: partial maximum to new reference.
    reference: int = 2
    #: New reference to the ring beside the north feeder.
    feedback: int = 1
    #: Lane: partial sum to normalised float.
    normalise: int = 3
    #: Lane: state memory, address to registered word; hidden beside the normalisation.
    state_read: int = 2
    #: Lane: float adder with rescale, state to result.
    adder: int = 4
    #: Lane: denominator to reciprocal, hidden by a delay line of the same length for the numerators.
    reciprocal: int = 6
    #: Lane: numerator times reciprocal, rounded.
    output: int = 6

    @property
    def coarse_stage(self) -> int:
        """PE: operands to the coarse exponent of the partial sum, which is needed for the shift."""
        return 2 if self.config.pe_latency >= 5 else 1

    @property
    def coarse_lead(self) -> int:
        """Cycles by which a partial sum's coarse exponent is ahead of its value."""
        return self.config.pe_latency - 1 - self.coarse_stage

    def read_stage(self, port: Port) -> int:
        """PE: cycles from a word's operands to the one in which it reads a register.

        Whatever a word writes, hold register, accumulator or mask bit, is there ``pe_latency`` cycles behind its operands.
        """
        latency = self.config.pe_latency
        match port:
            case Port.HOLD:
                return 0
            case Port.SLICE:
                return 1 if latency >= 5 else 0
            case Port.SIGN:
                return max(latency - 2, 1)
            case Port.SCORE | Port.VISIBLE:
                return latency - 1

    def read_distance(self, port: Port) -> int:
        """Slots from a word that writes a register to one that reads it by ``port``."""
        return self.config.pe_latency - self.read_stage(port)

    def overwrite_distance(self, port: Port) -> int:
        """Slots from a word that reads a register by ``port`` to one that writes it; negative: it may come as much before."""
        return self.read_stage(port) - (self.config.pe_latency - 1)

    @property
    def max_to_exp(self) -> int:
        """Slots from MAX to EXP of the same tile."""
        return self.config.rows + self.config.pe_latency + self.reference + self.feedback

    @property
    def exp_to_sum(self) -> int:
        """Slots from EXP to SUM or SLNV of the same tile: a PE's latency."""
        return self.read_distance(Port.HOLD)

    @property
    def recurrence(self) -> int:
        """Smallest initiation interval: consecutive tiles may share a query, whose state is read and written."""
        return max(self.state_read + self.adder + 1, self.reference + 1)

    def lifetime(self, f: int) -> int:
        """Slots from MAX to behind the last SLNV of a tile at least, in which it needs a hold register."""
        return self.max_to_exp + self.exp_to_sum + f + 1

    def least_interval(self, e: int, f: int) -> int:
        """No initiation interval is smaller: slots of a tile, recurrences, tiles that wait in hold registers."""
        return max(e + f + 2, self.recurrence, ceil_div(self.lifetime(f), self.config.holds))

    @property
    def corner_to_output(self) -> int:
        """Cycles from a numerator's SLNV at the corner until lane 0 answers a request for the bus word that it completes."""
        lane = self.normalise + self.adder + self.reciprocal + self.output
        return self.feeder + self.config.rows + self.config.pe_latency - 1 + lane + 3

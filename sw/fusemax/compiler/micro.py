"""Micro operations: what a PE does with its registers in a slot, and in which stage it reads and writes them.

A program is a list of micro operations for one tile, in the order of what they mean. Which registers an operation uses is said
once, in :data:`ACCESS`; the scheduler's distances follow from it, and so do a tile's registers' lifetimes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..spec import Op

__all__ = ["ACCESS", "Constant", "Edge", "Micro", "Operation", "Register", "edges"]


class Operation(enum.Enum):
    """What a microword can do for a tile."""

    QK = "QK"
    MASK = "MASK"
    MAX = "MAX"
    EXP = "EXP"
    LIN = "LIN"
    SET = "SET"
    ADD = "ADD"
    ENT = "ENT"
    SUM = "SUM"
    SLNV = "SLNV"

    @property
    def op(self) -> Op | None:
        """Main operation of the microword; none if the operation rides beside another one."""
        return Op[self.name] if self.name in Op.__members__ else None


class Register(enum.Enum):
    """What a PE keeps between words."""

    #: Accumulator.
    SCORE = "accumulator"
    #: The tile's hold register.
    HOLD = "hold"
    #: The last hold register, if tiles rotate over the others.
    SPARE = "spare hold"


class Constant(NamedTuple):
    """sig · 2^shift, |sig| ≤ 255: what the west feeder can put on the bus."""

    sig: int
    shift: int

    @property
    def value(self) -> float:
        return self.sig * 2.0**self.shift

    def __neg__(self) -> Constant:
        return Constant(-self.sig, self.shift)

    def __str__(self) -> str:
        return f"{self.sig}*2^{self.shift}"

    @staticmethod
    def of(number: float) -> Constant:
        """Round a number to the nearest constant."""
        if number == 0:
            return Constant(0, 0)
        shift = -7
        while abs(number) >= 256 * 2.0**shift:
            shift += 1
        while abs(number) < 128 * 2.0**shift:
            shift -= 1
        sig = round(number / 2.0**shift)
        return Constant(sig // 2, shift + 1) if abs(sig) == 256 else Constant(sig, shift)


@dataclass(frozen=True)
class Micro:
    """One operation of a tile.

    Members
    -------
    operation
        What it does.
    index
        Head dim index of QK and SLNV, F for SUM, slice of ENT.
    source, target
        Hold registers that it reads and writes, if it does.
    first
        QK loads the score; EXP is of -|S|; LIN is 0 where S < 0; ADD takes min(S, 0).
    constant
        Factor of SET and ADD.
    reference
        Constant reference of EXP and LIN; none for the running one, which comes through the lane.
    rides
        It takes no slot of its own: MAX beside the next tile's first QK.
    """

    operation: Operation
    index: int = 0
    source: Register = Register.HOLD
    target: Register = Register.HOLD
    first: bool = False
    constant: Constant | None = None
    reference: int | None = None
    rides: bool = False

    @property
    def reads(self) -> Iterator[tuple[Register, int]]:
        """Registers that it reads, with how many stages before the last one; a hold is read in the first stage."""
        access = ACCESS[self.operation]
        if access.reads_hold:
            yield self.source, FIRST_STAGE
        if access.reads_score is not None and not (self.operation is Operation.QK and self.first):
            sign = self.operation is Operation.ADD and self.first
            yield Register.SCORE, access.reads_score + sign

    @property
    def writes(self) -> Register | None:
        """The register that it writes."""
        access = ACCESS[self.operation]
        return self.target if access.writes_hold else Register.SCORE if access.writes_score else None


#: Stands for the first stage, however many there are.
FIRST_STAGE = -1


class Access(NamedTuple):
    """Registers of an operation.

    Members
    -------
    reads_hold, writes_hold, writes_score
        Whether it does.
    reads_score
        How many stages before the last one it reads the accumulator; none if it does not.
    through_lane
        What it gives goes down the columns to the lanes.
    """

    reads_hold: bool = False
    writes_hold: bool = False
    reads_score: int | None = None
    writes_score: bool = False
    through_lane: bool = False


#: Registers of every operation. The sign of a score, which ADD with ``first`` needs, is read a stage before the score.
ACCESS = {
    Operation.QK: Access(reads_score=0, writes_score=True),
    Operation.MASK: Access(),
    Operation.MAX: Access(reads_score=0, writes_hold=True, through_lane=True),
    Operation.EXP: Access(reads_hold=True, writes_hold=True),
    Operation.LIN: Access(reads_hold=True, writes_hold=True),
    Operation.SET: Access(reads_hold=True, writes_hold=True),
    Operation.ADD: Access(reads_hold=True, reads_score=0, writes_score=True),
    Operation.ENT: Access(reads_hold=True, reads_score=FIRST_STAGE, through_lane=True),
    Operation.SUM: Access(reads_hold=True, through_lane=True),
    Operation.SLNV: Access(reads_hold=True, through_lane=True),
}


def stage(before_last: int, latency: int) -> int:
    """Stage in which a register is read, from 0."""
    return 0 if before_last == FIRST_STAGE else latency - 1 - before_last


class Edge(NamedTuple):
    """Operation ``after`` comes at least ``slots`` slots after operation ``before``; both are numbers in the program."""

    before: int
    after: int
    slots: int


def edges(program: Sequence[Micro], latency: int, max_to_exp: int) -> list[Edge]:
    """Distances between the operations of a tile.

    A result is visible ``latency`` slots after its operation. What reads it comes so much later, less the stage in which it
    reads; what overwrites a register may come as much earlier than its last reader as it writes later than that reads.

    Parameters
    ----------
    program
        Operations in the order of what they mean.
    latency
        Stages of a PE.
    max_to_exp
        Slots from MAX to what needs the running reference.
    """
    found: dict[tuple[int, int], int] = {}
    writer: dict[Register, int] = {}
    readers: dict[Register, list[tuple[int, int]]] = {register: [] for register in Register}
    latest: dict[Operation, int] = {}

    def need(before: int, after: int, slots: int) -> None:
        found[before, after] = max(slots, found.get((before, after), slots))

    for number, micro in enumerate(program):
        for register, before_last in micro.reads:
            read = stage(before_last, latency)
            if register in writer:
                need(writer[register], number, latency - read)
            readers[register].append((number, read))
        if (register := micro.writes) is not None:
            for reader, read in readers[register]:
                if reader != number:
                    need(reader, number, read - (latency - 1))
            if register in writer:
                need(writer[register], number, 1)
            writer[register], readers[register] = number, []
        if micro.operation in (Operation.EXP, Operation.LIN) and micro.reference is None:
            need(latest[Operation.MAX], number, max_to_exp)
        # Lanes and buffers take a kind's operations in their order, and a denominator before its numerators.
        for earlier in (micro.operation, *((Operation.SUM,) if micro.operation is Operation.SLNV else ())):
            if earlier in latest:
                need(latest[earlier], number, 1)
        latest[micro.operation] = number
    return [Edge(before, after, slots) for (before, after), slots in found.items()]

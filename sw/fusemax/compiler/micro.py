"""Micro operations: what a PE does with its registers in a slot, and in which stage it reads and writes them.

A program is a list of micro operations for one tile, in the order of what they mean. Which registers an operation uses is said
once, in :data:`ACCESS`; with the table of ports in :class:`fusemax.spec.Timing` all distances follow from it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..spec import Op, Port, Timing

__all__ = ["ACCESS", "Constant", "Edge", "Micro", "Operation", "Register", "edges"]


class Operation(enum.Enum):
    """What a microword can do for a tile."""

    QK = "QK"
    BIAS = "BIAS"
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
    """sig · 2^shift, |sig| ≤ ``spec.MOST_SIG``: what the west feeder can put on the bus."""

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
        Head dim index of QK and SLNV, row of BIAS, F for SUM, slice of ENT.
    source, target
        Hold registers that it reads and writes, if it does. A QK with the spare one as its source has a key of 0 instead.
    first
        QK loads the score; EXP is of -|S|; LIN is 0 where S < 0; ADD takes min(S, 0).
    constant
        Factor of SET and ADD.
    reference
        Constant reference of EXP; none for the running one, which comes through the lane.
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
    def reads(self) -> Iterator[tuple[Register, Port]]:
        """Registers that it reads, and how."""
        for port in ACCESS[self.operation].reads:
            if port is Port.HOLD:
                yield self.source, port
            elif not (self.operation is Operation.QK and self.first):
                yield Register.SCORE, port
        if self.operation is Operation.ADD and self.first:
            yield Register.SCORE, Port.SIGN

    @property
    def writes(self) -> Register | None:
        """The register that it writes."""
        access = ACCESS[self.operation]
        return self.target if access.writes_hold else Register.SCORE if access.writes_score else None


class Access(NamedTuple):
    """Registers of an operation.

    Members
    -------
    reads
        Ports by which it reads them.
    writes_hold, writes_score
        Whether it does.
    """

    reads: tuple[Port, ...] = ()
    writes_hold: bool = False
    writes_score: bool = False


#: Registers of every operation.
ACCESS = {
    Operation.QK: Access((Port.SCORE,), writes_score=True),
    Operation.BIAS: Access((Port.SCORE,), writes_score=True),
    Operation.MASK: Access(),
    Operation.MAX: Access((Port.SCORE,), writes_hold=True),
    Operation.EXP: Access((Port.HOLD,), writes_hold=True),
    Operation.LIN: Access((Port.HOLD,), writes_hold=True),
    Operation.SET: Access((Port.HOLD,), writes_hold=True),
    Operation.ADD: Access((Port.HOLD, Port.SCORE), writes_score=True),
    Operation.ENT: Access((Port.HOLD, Port.SLICE)),
    Operation.SUM: Access((Port.HOLD,)),
    Operation.SLNV: Access((Port.HOLD,)),
}


#: What a lane divides by the denominator.
NUMERATORS = (Operation.SLNV, Operation.ENT)


class Edge(NamedTuple):
    """Operation ``after`` comes at least ``slots`` slots after operation ``before``; both are numbers in the program."""

    before: int
    after: int
    slots: int


def edges(program: Sequence[Micro], timing: Timing) -> list[Edge]:
    """Distances between the operations of a tile.

    What reads a register comes behind its last writer, what overwrites it behind its last readers, by the distances of
    :class:`fusemax.spec.Timing`; what needs the running reference, behind MAX.

    Parameters
    ----------
    program
        Operations in the order of what they mean.
    timing
        The machine's ports and latencies.
    """
    found: dict[tuple[int, int], int] = {}
    writer: dict[Register, int] = {}
    readers: dict[Register, list[tuple[int, Port]]] = {register: [] for register in Register}
    latest: dict[Operation, int] = {}

    def need(before: int, after: int, slots: int) -> None:
        found[before, after] = max(slots, found.get((before, after), slots))

    for number, micro in enumerate(program):
        for register, port in micro.reads:
            if register in writer:
                need(writer[register], number, timing.read_distance(port))
            readers[register].append((number, port))
        if (register := micro.writes) is not None:
            for reader, port in readers[register]:
                if reader != number:
                    # By the ports alone it might come earlier, but a stall between the two would turn their order round.
                    need(reader, number, max(1, timing.overwrite_distance(port)))
            if register in writer:
                need(writer[register], number, 1)
            writer[register], readers[register] = number, []
        if micro.operation is Operation.EXP and micro.reference is None:
            need(latest[Operation.MAX], number, timing.max_to_exp)
        # Lanes and buffers take a kind's operations in their order, and a denominator before its numerators.
        for earlier in (micro.operation, *((Operation.SUM,) if micro.operation in NUMERATORS else ())):
            if earlier in latest:
                need(latest[earlier], number, 1)
        latest[micro.operation] = number
    return [Edge(before, after, slots) for (before, after), slots in found.items()]

"""Schedules as microwords, and back."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from ..errors import ProgramError
from ..spec import MICROWORD, Config, Op
from .array_program import Operation
from .placed import Placed
from .schedule import Schedule

__all__ = ["OPS", "WORD_BYTES", "as_bytes", "decode", "encode", "tag_of"]

WORD_BYTES = MICROWORD.bits // 8
#: Main operations that a schedule can hold.
OPS = (Op.NOP, *(operation.op for operation in Operation if operation.op is not None))


def encode(schedule: Schedule) -> tuple[int, ...]:
    """Pack a schedule into the microwords of one initiation interval.

    ``first`` and ``last`` are set on QK and SLNV, the operations that wait for a buffer and free it, and nowhere else.

    Parameters
    ----------
    schedule
        Where a tile's operations are, in slots.

    Returns
    -------
    tuple of int
        ``schedule.ii`` words of 32 bits (:data:`fusemax.spec.MICROWORD`).
    """
    words: list[dict[str, int]] = [{} for _ in range(schedule.ii)]
    for placed in schedule.placed:
        stage, slot = divmod(placed.offset, schedule.ii)
        if placed.operation is Operation.MAX:
            words[slot]["max"] = 1
        elif placed.operation is Operation.MASK:
            words[slot]["mask"] = 1
        else:
            words[slot] |= {"op": Op[placed.operation.name], "stage": stage, "index": placed.index}
        if placed.operation is Operation.SUM:
            words[slot]["index"] = schedule.f
        if placed.operation in (Operation.QK, Operation.SLNV):
            count = schedule.e if placed.operation is Operation.QK else schedule.f
            words[slot] |= {"first": int(placed.index == 0), "last": int(placed.index == count - 1)}
    return tuple(MICROWORD.pack(word) for word in words)


def decode(microwords: Sequence[int], config: Config, e: int, f: int) -> Schedule:
    """Unpack microwords into a schedule. Whether the machine can run them is the rule checker's question.

    Parameters
    ----------
    microwords
        Words of one initiation interval.
    config, e, f
        Machine and head dims that the schedule is for.

    Returns
    -------
    Schedule
        Where a tile's operations are, in slots.

    Raises
    ------
    ProgramError
        If a word names an operation that does not exist, or none holds any.
    """
    ii = len(microwords)
    placed = []
    for slot, word in enumerate(microwords):
        fields = MICROWORD.unpack(word)
        if fields["op"] not in OPS:
            raise ProgramError(
                f"the operation of microword {slot} must be one of {', '.join(op.name for op in OPS)}, not {fields['op']}"
            )
        if fields["max"]:
            placed.append(Placed(Operation.MAX, 0, ii + slot))
        if fields["mask"]:
            placed.append(Placed(Operation.MASK, 0, slot))
        if fields["op"] != Op.NOP:
            operation = Operation[Op(fields["op"]).name]
            index = 0 if operation is Operation.SUM else fields["index"]
            placed.append(Placed(operation, index, fields["stage"] * ii + slot))
    if not placed:
        raise ProgramError("a program must hold an operation, but has none")
    placed.sort(key=lambda p: (p.offset, p.operation.op is not None))
    return Schedule(config, e, f, ii, tuple(placed))


def as_bytes(microwords: Sequence[int]) -> bytes:
    """Lay microwords out as in memory: 4 bytes each, little-endian."""
    return b"".join(word.to_bytes(WORD_BYTES, "little") for word in microwords)


def tag_of(microwords: Sequence[int]) -> int:
    """Compute the tag by which jobs name the program that they need: the CRC-32 of its microwords."""
    return zlib.crc32(as_bytes(microwords))

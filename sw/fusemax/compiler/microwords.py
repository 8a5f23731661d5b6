"""Schedules as microwords, and back."""

from __future__ import annotations

from ..errors import ProgramError
from ..spec import MICROWORD, Config, Op
from .array_program import Operation
from .modulo_schedule import Placed, Schedule

__all__ = ["decode", "encode"]


def encode(schedule: Schedule) -> tuple[int, ...]:
    """Microwords of one initiation interval.

    ``first`` and ``last`` are set on QK and SLNV, the operations that wait for a buffer and free it, and nowhere else.
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


def decode(microwords: tuple[int, ...], config: Config, e: int, f: int) -> Schedule:
    """Offsets of the operations of ``microwords``. Whether the machine can run them is the checker's question.

    Raises
    ------
    ProgramError
        If a word names an operation that does not exist, or none holds any.
    """
    ii = len(microwords)
    placed = []
    for slot, word in enumerate(microwords):
        fields = MICROWORD.unpack(word)
        if fields["op"] not in tuple(Op):
            raise ProgramError(
                f"the operation of microword {slot} must be one of {', '.join(Op.__members__)}, not {fields['op']}"
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

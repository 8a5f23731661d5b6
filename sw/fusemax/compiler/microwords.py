"""Schedules as microwords, and back."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

from ..arith.score_product import add_shift, set_shift
from ..errors import ProgramError
from ..spec import MICROWORD, Config, Op
from .micro import Constant, Micro, Operation, Register
from .placed import in_order
from .schedule import Schedule

__all__ = ["SHIFTS", "WORD_BYTES", "as_bytes", "constant_fields", "constant_of", "decode", "encode", "tag_of"]

WORD_BYTES = MICROWORD.bits // 8
#: Registers by the fields ``src`` and ``dst``.
REGISTERS = (Register.HOLD, Register.SPARE)
#: From the power of two of a constant to the shift in its microword, of operations whose constant is sig · 2^power.
SHIFTS = {Op.SET: set_shift, Op.ADD: add_shift}
#: Operations that wait for a buffer, or room in one, by ``first``; the others than ENT free it by ``last``.
BUFFERED = (Operation.QK, Operation.BIAS, Operation.SLNV, Operation.ENT)


def encode(schedule: Schedule) -> tuple[int, ...]:
    """Pack a schedule into the microwords of one initiation interval.

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
    buffered = {
        operation: [p for p in schedule.of(operation) if p.micro.source is Register.HOLD or operation is not Operation.QK]
        for operation in BUFFERED
    }
    for placed in schedule.placed:
        stage, slot = divmod(placed.offset, schedule.ii)
        word = words[slot]
        if placed.operation is Operation.MAX:
            # Of the stage 1 tile in slot 0; elsewhere of the word's own tile.
            word |= {"max": 1} if placed.offset == schedule.ii else {"max": 1, "dst": 1, "stage": stage}
        elif placed.operation is Operation.MASK:
            word["mask"] = 1
        else:
            word |= _fields(schedule.config, placed.micro) | {"stage": stage}
        ends = buffered.get(placed.operation)
        # A QK with a key of 0 reads no buffer.
        if ends and placed in ends:
            word["first"] = int(placed is ends[0])
            word["last"] = int(placed is ends[-1] and placed.operation is not Operation.ENT)
    return tuple(MICROWORD.pack(word) for word in words)


def _fields(config: Config, micro: Micro) -> dict[str, int]:
    """Fields of a main operation, but its stage."""
    op = Op[micro.operation.name]
    fields = {
        "op": int(op),
        "index": micro.index,
        "first": int(micro.first),
        "src": REGISTERS.index(micro.source),
        "dst": REGISTERS.index(micro.target),
    }
    if op in SHIFTS and micro.constant is not None:
        fields |= constant_fields(config, op, micro.constant)
    if micro.reference is not None:
        fields["constant"] = micro.reference
    return fields


def decode(microwords: Sequence[int], config: Config, e: int, f: int, *, fixed_reference: bool = False) -> Schedule:
    """Unpack microwords into a schedule. Whether the machine can run them is the checker's question.

    Parameters
    ----------
    microwords
        Words of one initiation interval.
    config, e, f
        Machine and head dims that the schedule is for.
    fixed_reference
        EXP's reference is its constant.

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
    found: list[tuple[Micro, int]] = []
    for slot, word in enumerate(microwords):
        fields = MICROWORD.unpack(word)
        if fields["op"] not in tuple(Op):
            raise ProgramError(
                f"the operation of microword {slot} must be one of {', '.join(Op.__members__)}, not {fields['op']}"
            )
        if fields["max"]:
            rides = not fields["dst"] and fields["op"] != Op.NOP
            found.append((Micro(Operation.MAX, rides=rides), fields["stage"] * ii + slot if fields["dst"] else ii + slot))
        if fields["mask"]:
            found.append((Micro(Operation.MASK), slot))
        if fields["op"] != Op.NOP:
            found.append((_micro(config, fields, fixed_reference), fields["stage"] * ii + slot))
    if not found:
        raise ProgramError("a program must hold an operation, but has none")
    return Schedule(config, e, f, ii, in_order(found))


def constant_fields(config: Config, op: Op, constant: Constant) -> dict[str, int]:
    """Write the constant of SET or ADD: its significand, two's complement, is in the index."""
    return {"index": constant.sig % (1 << 10), "constant": SHIFTS[op](config, constant.shift)}


def constant_of(config: Config, fields: Mapping[str, int]) -> Constant:
    """Read the constant of SET or ADD; shift and power of two have the same sum always."""
    sig = fields["index"] - (fields["index"] >> 9 << 10)
    return Constant(sig, SHIFTS[Op(fields["op"])](config, 0) - fields["constant"])


def _micro(config: Config, fields: Mapping[str, int], fixed_reference: bool) -> Micro:
    op = Op(fields["op"])
    operation, scaled = Operation[op.name], op in SHIFTS
    writes_hold = operation in (Operation.EXP, Operation.LIN, Operation.SET)
    return Micro(
        operation,
        index=0 if scaled else fields["index"],
        source=REGISTERS[fields["src"]],
        target=REGISTERS[fields["dst"] if writes_hold else 0],
        first=bool(fields["first"]) and operation not in (Operation.BIAS, Operation.SLNV, Operation.ENT),
        constant=constant_of(config, fields) if scaled else None,
        reference=fields["constant"] if fixed_reference and operation is Operation.EXP else None,
    )


def as_bytes(microwords: Sequence[int]) -> bytes:
    """Lay microwords out as in memory: 4 bytes each, little-endian."""
    return b"".join(word.to_bytes(WORD_BYTES, "little") for word in microwords)


def tag_of(microwords: Sequence[int]) -> int:
    """Compute the tag by which jobs name the program that they need: the CRC-32 of its microwords."""
    return zlib.crc32(as_bytes(microwords))

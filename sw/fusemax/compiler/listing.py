"""Text form of programs.

A line is ``slot: operation [index] stage [flags]``; ``.e`` and ``.f`` give the head dims; ``#`` starts a comment::

    .e 2
    .f 1
    0: QK 0 stage=0 first max
    1: QK 1 stage=0 last
    2: EXP stage=4

Words have no operation (``NOP``) in slots that no line names, up to the last slot that one does.
"""

from __future__ import annotations

import re

from ..errors import ProgramError
from ..spec import MICROWORD, Config, Op, config_named
from .program import Program

__all__ = ["assemble", "disassemble"]

FLAGS = ("first", "last", "max", "mask")
LINE = re.compile(
    r"(?P<slot>\d+)\s*:\s*(?P<op>[A-Za-z]+)(?:\s+(?P<index>\d+))?(?:\s+stage=(?P<stage>\d+))?(?P<flags>(?:\s+[a-z]+)*)"
)
DIRECTIVE = re.compile(r"\.(?P<name>[ef])\s+(?P<value>\d+)")


def disassemble(program: Program) -> str:
    """Text of a program, with each operation's time from its tile's start in the comments.

    Raises
    ------
    ProgramError
        If a word has reserved bits or an operation that does not exist: text cannot say so.
    """
    config = program.config
    lines = [
        f"# {config.name}: {config.rows} rows, {config.columns} columns, {config.holds} hold registers",
        f"# initiation interval {program.ii}, {program.stages} stages, tag {program.tag:#010x}",
        f".e {program.e}",
        f".f {program.f}",
        "# slot: operation, index, stage (iterations since the tile started), flags  # slots since the tile started",
    ]
    for slot, word in enumerate(program.microwords):
        fields = MICROWORD.unpack(word)
        if MICROWORD.pack(fields) != word:
            raise ProgramError(f"the reserved bits of microword {slot} must be zero, not {word:#010x}")
        op = Op(fields["op"])
        text = f"{slot:4}: {op.name:4} {fields['index']:3} stage={fields['stage']:<2}"
        text += "".join(f" {flag}" for flag in FLAGS if fields[flag])
        times = [str(fields["stage"] * program.ii + slot)] if op is not Op.NOP else []
        times += [f"MAX {program.ii + slot}"] if fields["max"] else []
        times += [f"MASK {slot}"] if fields["mask"] else []
        lines.append(f"{text:36} # {', '.join(times)}".rstrip(" #") if not times else f"{text:36} # {', '.join(times)}")
    return "\n".join(lines) + "\n"


def assemble(text: str, config: str | Config = "small") -> Program:
    """The program that a text describes.

    Raises
    ------
    ProgramError
        If a line is not understood, a slot is named twice, a number does not fit its field, or ``.e`` or ``.f`` is
        missing; the message names the line.
    """
    machine = config_named(config)
    dims: dict[str, int] = {}
    words: dict[int, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        statement = line.partition("#")[0].strip()
        if not statement:
            continue
        if directive := DIRECTIVE.fullmatch(statement):
            dims[directive["name"]] = int(directive["value"])
            continue
        slot, word = _assemble_line(statement, number)
        if slot >= machine.program_words:
            raise ProgramError(f"line {number}: the slot must be from 0 to {machine.program_words - 1}, not {slot}")
        if slot in words:
            raise ProgramError(f"line {number}: slot {slot} must be named once, not again")
        words[slot] = word
    for name in ("e", "f"):
        if name not in dims:
            raise ProgramError(f"a program must say .{name}, its head dim, but does not")
    return Program(machine, dims["e"], dims["f"], tuple(words.get(slot, 0) for slot in range(max(words, default=-1) + 1)))


def _assemble_line(statement: str, number: int) -> tuple[int, int]:
    match = LINE.fullmatch(statement)
    if not match:
        raise ProgramError(f"line {number}: must be 'slot: operation [index] [stage=n] [flags]', not {statement!r}")
    if match["op"] not in Op.__members__:
        raise ProgramError(f"line {number}: the operation must be one of {', '.join(Op.__members__)}, not {match['op']!r}")
    fields = {"op": int(Op[match["op"]]), "index": int(match["index"] or 0), "stage": int(match["stage"] or 0)}
    for flag in match["flags"].split():
        if flag not in FLAGS:
            raise ProgramError(f"line {number}: a flag must be one of {', '.join(FLAGS)}, not {flag!r}")
        fields[flag] = 1
    try:
        return int(match["slot"]), MICROWORD.pack(fields)
    except ValueError as error:
        raise ProgramError(f"line {number}: {error}") from None

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
from collections.abc import Sequence
from typing import NamedTuple

from ..errors import ProgramError
from ..spec import MICROWORD, Config, Op
from .microwords import decode, tag_of

__all__ = ["Listing", "assemble", "disassemble"]

FLAGS = ("first", "last", "max", "mask")
LINE = re.compile(
    r"(?P<slot>\d+)\s*:\s*(?P<op>[A-Za-z]+)(?:\s+(?P<index>\d+))?(?:\s+stage=(?P<stage>\d+))?(?P<flags>(?:\s+[a-z]+)*)"
)
DIRECTIVE = re.compile(r"\.(?P<name>[ef])\s+(?P<value>\d+)")


class Listing(NamedTuple):
    """What a text says of a program: its head dims and its microwords."""

    e: int
    f: int
    microwords: tuple[int, ...]


def disassemble(microwords: Sequence[int], config: Config, e: int, f: int) -> str:
    """Write microwords as text, with each operation's time from its tile's start in the comments.

    Parameters
    ----------
    microwords
        Words of one initiation interval, 32 bits each.
    config
        Machine that they are for; the text's first comment names it.
    e, f
        Head dim of queries and keys, and of values.

    Returns
    -------
    str
        Text that :func:`assemble` reads.

    Raises
    ------
    ProgramError
        If a word has reserved bits or an operation that does not exist: text cannot say so.
    """
    ii = len(microwords)
    stages = decode(microwords, config, e, f).stages
    lines = [
        f"# {config.name}: {config.rows} rows, {config.columns} columns, {config.holds} hold registers",
        f"# initiation interval {ii}, {stages} stages, tag {tag_of(microwords):#010x}",
        f".e {e}",
        f".f {f}",
        "# slot: operation, index, stage (iterations since the tile started), flags  # slots since the tile started",
    ]
    for slot, word in enumerate(microwords):
        fields = MICROWORD.unpack(word)
        if MICROWORD.pack(fields) != word:
            raise ProgramError(f"the reserved bits of microword {slot} must be zero, not {word:#010x}")
        op = Op(fields["op"])
        text = f"{slot:4}: {op.name:4} {fields['index']:3} stage={fields['stage']:<2}"
        text += "".join(f" {flag}" for flag in FLAGS if fields[flag])
        times = [str(fields["stage"] * ii + slot)] if op is not Op.NOP else []
        times += [f"MAX {ii + slot}"] if fields["max"] else []
        times += [f"MASK {slot}"] if fields["mask"] else []
        lines.append(f"{text:36} # {', '.join(times)}".rstrip(" #") if not times else f"{text:36} # {', '.join(times)}")
    return "\n".join(lines) + "\n"


def assemble(text: str, program_words: int) -> Listing:
    """Read the microwords that a text describes.

    Parameters
    ----------
    text
        Lines as above.
    program_words
        Microwords that the machine holds.

    Returns
    -------
    Listing
        Words up to the last slot that a line names; none if no line does.

    Raises
    ------
    ProgramError
        If a line is not understood, a slot is named twice or is not below ``program_words``, a number does not fit its field,
        or ``.e`` or ``.f`` is missing; names the line.
    """
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
        if slot >= program_words:
            raise ProgramError(f"line {number}: the slot must be from 0 to {program_words - 1}, not {slot}")
        if slot in words:
            raise ProgramError(f"line {number}: slot {slot} must be named once, not again")
        words[slot] = word
    for name in ("e", "f"):
        if name not in dims:
            raise ProgramError(f"a program must say .{name}, its head dim, but does not")
    return Listing(dims["e"], dims["f"], tuple(words.get(slot, 0) for slot in range(max(words, default=-1) + 1)))


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

"""Text form of programs.

A line is ``slot: operation [index] stage [src] [dst] [const] [flags]``; ``.e`` and ``.f`` give the head dims, ``.flags`` what
the program's jobs must set; ``#`` starts a comment::

    .e 2
    .f 1
    .flags fixed_reference spare_hold
    0: QK 0 stage=0 first max
    1: QK 1 stage=0 last
    2: EXP stage=4 dst=aux const=2
    3: ADD stage=4 src=aux const=-234*2^-11 first

``aux`` is the spare hold register. ``const`` is a number: sig*2^k for SET and ADD, with \\|sig\\| up to 255, and a whole number
for EXP. Words have no operation (``NOP``) in slots that no line names, up to the last slot that one does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ..errors import ProgramError
from ..spec import MICROWORD, MOST_SIG, Config, Op
from .micro import Constant
from .microwords import SHIFTS, constant_fields, constant_of, decode, tag_of

__all__ = ["PROGRAM_FLAGS", "Listing", "assemble", "disassemble"]

FLAGS = ("first", "last", "max", "mask")
#: What a program's jobs must set, as in :class:`fusemax.spec.Descriptor`.
PROGRAM_FLAGS = ("fixed_reference", "spare_hold")
LINE = re.compile(
    r"(?P<slot>\d+)\s*:\s*(?P<op>[A-Za-z]+)(?:\s+(?P<index>\d+))?(?:\s+stage=(?P<stage>\d+))?(?:\s+src=(?P<src>\w+))?"
    r"(?:\s+dst=(?P<dst>\w+))?(?:\s+const=(?P<const>[-\w*^]+))?(?P<flags>(?:\s+[a-z]+)*)"
)
CONSTANT = re.compile(r"(?P<sig>-?\d+)(?:\*2\^(?P<power>-?\d+))?")
DIRECTIVE = re.compile(r"\.(?P<name>[ef])\s+(?P<value>\d+)")
FLAG_DIRECTIVE = re.compile(r"\.flags(?P<flags>(?:\s+[a-z_]+)+)")


class Listing(NamedTuple):
    """What a text says of a program: its head dims, its microwords and the flags of its jobs."""

    e: int
    f: int
    microwords: tuple[int, ...]
    flags: frozenset[str] = frozenset()


def disassemble(microwords: Sequence[int], config: Config, e: int, f: int, flags: Sequence[str] = ()) -> str:
    """Write microwords as text, with each operation's time from its tile's start in the comments.

    Parameters
    ----------
    microwords
        Words of one initiation interval, 32 bits each.
    config
        Machine that they are for; the text's first comment names it.
    e, f
        Head dim of queries and keys, and of values.
    flags
        Of :data:`PROGRAM_FLAGS`, those that are set.

    Returns
    -------
    str
        Text that :func:`assemble` reads.

    Raises
    ------
    ProgramError
        If a word has an operation that does not exist, or a constant that no machine has: text cannot say so.
    """
    ii = len(microwords)
    stages = decode(microwords, config, e, f).stages
    lines = [
        f"# {config.name}: {config.rows} rows, {config.columns} columns, {config.holds} hold registers",
        f"# initiation interval {ii}, {stages} stages, tag {tag_of(microwords):#010x}",
        f".e {e}",
        f".f {f}",
        *([f".flags {' '.join(flags)}"] if flags else []),
        "# slot: operation, index, stage (iterations since the tile started), flags  # slots since the tile started",
    ]
    for slot, word in enumerate(microwords):
        fields = MICROWORD.unpack(word)
        op = Op(fields["op"])
        if op in SHIFTS and abs(sig := constant_of(config, fields).sig) > MOST_SIG:
            raise ProgramError(f"the significand of microword {slot} must be from {-MOST_SIG} to {MOST_SIG}, not {sig}")
        text = f"{slot:4}: {op.name:4} " + " ".join(_operands(op, fields, config))
        times = [str(fields["stage"] * ii + slot)] if op is not Op.NOP else []
        if fields["max"]:
            times.append(f"MAX {fields['stage'] * ii + slot if fields['dst'] else ii + slot}")
        times += [f"MASK {slot}"] if fields["mask"] else []
        lines.append(f"{text:36} # {', '.join(times)}" if times else text.rstrip())
    return "\n".join(lines) + "\n"


def _operands(op: Op, fields: Mapping[str, int], config: Config) -> Iterator[str]:
    """The fields of a word behind its operation."""
    scaled = op in SHIFTS
    yield "   " if scaled else f"{fields['index']:3}"
    yield f"stage={fields['stage']:<2}"
    yield from (f"{name}=aux" for name in ("src", "dst") if fields[name])
    if scaled:
        yield f"const={constant_of(config, fields)}"
    elif fields["constant"]:
        yield f"const={fields['constant']}"
    yield from (flag for flag in FLAGS if fields[flag])


def assemble(text: str, config: Config) -> Listing:
    """Read the microwords that a text describes.

    Parameters
    ----------
    text
        Lines as above.
    config
        Machine that it is for.

    Returns
    -------
    Listing
        Words up to the last slot that a line names; none if no line does.

    Raises
    ------
    ProgramError
        If a line is not understood, a slot is named twice or is not on the machine, a number does not fit its field, or ``.e``
        or ``.f`` is missing; names the line.
    """
    dims: dict[str, int] = {}
    words: dict[int, int] = {}
    flags: set[str] = set()
    for number, line in enumerate(text.splitlines(), 1):
        statement = line.partition("#")[0].strip()
        if not statement:
            continue
        if directive := DIRECTIVE.fullmatch(statement):
            dims[directive["name"]] = int(directive["value"])
            continue
        if directive := FLAG_DIRECTIVE.fullmatch(statement):
            flags |= set(directive["flags"].split())
            if unknown := flags - set(PROGRAM_FLAGS):
                raise ProgramError(f"line {number}: a flag must be one of {', '.join(PROGRAM_FLAGS)}, not {min(unknown)!r}")
            continue
        slot, word = _assemble_line(statement, number, config)
        if slot >= config.program_words:
            raise ProgramError(f"line {number}: the slot must be from 0 to {config.program_words - 1}, not {slot}")
        if slot in words:
            raise ProgramError(f"line {number}: slot {slot} must be named once, not again")
        words[slot] = word
    for name in ("e", "f"):
        if name not in dims:
            raise ProgramError(f"a program must say .{name}, its head dim, but does not")
    ordered = tuple(words.get(slot, 0) for slot in range(max(words, default=-1) + 1))
    return Listing(dims["e"], dims["f"], ordered, frozenset(flags))


def _assemble_line(statement: str, number: int, config: Config) -> tuple[int, int]:
    match = LINE.fullmatch(statement)
    if not match:
        raise ProgramError(f"line {number}: must be 'slot: operation [index] [stage=n] [flags]', not {statement!r}")
    if match["op"] not in Op.__members__:
        raise ProgramError(f"line {number}: the operation must be one of {', '.join(Op.__members__)}, not {match['op']!r}")
    op = Op[match["op"]]
    fields = {"op": int(op), "index": int(match["index"] or 0), "stage": int(match["stage"] or 0)}
    for name in ("src", "dst"):
        if match[name] not in (None, "aux"):
            raise ProgramError(f"line {number}: {name} must be aux, not {match[name]!r}")
        fields[name] = int(match[name] is not None)
    try:
        fields |= _constant(op, match["const"], number, config)
        for flag in match["flags"].split():
            if flag not in FLAGS:
                raise ProgramError(f"line {number}: a flag must be one of {', '.join(FLAGS)}, not {flag!r}")
            fields[flag] = 1
        return int(match["slot"]), MICROWORD.pack(fields)
    except ProgramError:
        raise
    except ValueError as error:
        raise ProgramError(f"line {number}: {error}") from None


def _constant(op: Op, text: str | None, number: int, config: Config) -> dict[str, int]:
    """Fields of a constant."""
    if text is None:
        return {}
    match = CONSTANT.fullmatch(text)
    if not match or (match["power"] is None) == (op in SHIFTS):
        wanted = "sig*2^k" if op in SHIFTS else "a whole number"
        raise ProgramError(f"line {number}: const of {op.name} must be {wanted}, not {text!r}")
    sig = int(match["sig"])
    if op not in SHIFTS:
        return {"constant": sig}
    if abs(sig) > MOST_SIG:
        raise ProgramError(f"line {number}: the significand of const must be from {-MOST_SIG} to {MOST_SIG}, not {sig}")
    return constant_fields(config, op, Constant(sig, int(match["power"])))

"""Microword and the binary form of a program.

A program is one initiation interval: word *s* is issued in slot *s* of every iteration. Every operation
carries the stage it belongs to, that is, how many iterations ago its tile started; it is executed only if
that stage holds a tile (architecture: kernel-only modulo schedule with stage predicates).
"""

from __future__ import annotations

import enum

from .fields import Field, Layout

__all__ = ["MICROWORD", "PROGRAM_HEADER", "PROGRAM_MAGIC", "PROGRAM_VERSION", "STAGES", "Op"]


class Op(enum.IntEnum):
    """Main operation of a microword, executed by every PE as the word passes."""

    #: Nothing.
    NOP = 0
    #: S += q·k, or S = q·k with ``first``.
    QK = 1
    #: P = 2^(S - RM').
    EXP = 2
    #: Downward sum of P.
    SUM = 3
    #: Downward sum of P·v.
    SLNV = 4


#: Stages that a program may use: an operation's tile started at most ``STAGES - 1`` iterations ago.
STAGES = 16

#: Where each field of a microword lies.
MICROWORD = Layout(
    "Microword",
    "What one slot of the initiation interval does.",
    (
        Field("op", 3, "Main operation (Op)."),
        Field("stage", 4, "Stage of the main operation's tile."),
        Field("index", 9, "Head dim index: e of QK, f of SLNV, F for SUM."),
        Field("first", 1, "First operation of its kind for the tile: QK loads S instead of adding; K, V or Q must be there."),
        Field("last", 1, "Last operation of its kind for the tile: frees the buffer that it read."),
        Field(
            "max",
            1,
            "In slot 0, beside the first QK or alone: downward maximum of the stage 1 tile's scores; they move to a hold.",
        ),
        Field("mask", 1, "In SUM's slot: the stage 0 tile's key intervals come down the columns."),
        Field("_reserved", 12, "Zero."),
    ),
)

PROGRAM_MAGIC = 0x58414D46  # "FMAX"
PROGRAM_VERSION = 1

#: Where each field in front of the microwords lies.
PROGRAM_HEADER = Layout(
    "ProgramHeader",
    "First 16 bytes of a program file; microwords of 32 bits follow, little-endian.",
    (
        Field("magic", 32, "PROGRAM_MAGIC."),
        Field("version", 16, "PROGRAM_VERSION."),
        Field("ii", 16, "Initiation interval: number of microwords."),
        Field("e", 16, "Head dim of queries and keys."),
        Field("f", 16, "Head dim of values."),
        Field("tag", 32, "CRC-32 of the microwords; a job names the program that it needs by it."),
    ),
)

"""Microword and the binary form of a program.

A program is one initiation interval: word *s* is issued in slot *s* of every iteration. Every operation
carries the stage it belongs to, that is, how many iterations ago its tile started; it is executed only if
that stage holds a tile (architecture: kernel-only modulo schedule with stage predicates).
"""

from __future__ import annotations

import enum

from .fields import Field, Layout

__all__ = ["MICROWORD", "MOST_SIG", "PROGRAM_HEADER", "PROGRAM_MAGIC", "PROGRAM_VERSION", "STAGES", "Op"]


class Op(enum.IntEnum):
    """Main operation of a microword, executed by every PE as the word passes."""

    #: Nothing.
    NOP = 0
    #: S += q·k, or S = q·k with ``first``.
    QK = 1
    #: P = 2^(S - reference), of S in a hold register; with ``first`` 2^(-|S| - reference).
    EXP = 2
    #: Downward sum of P.
    SUM = 3
    #: Downward sum of P·v.
    SLNV = 4
    #: P = S, a signed weight, of S in a hold register; with ``first`` max(S, 0). Machines with ``Config.linear``.
    LIN = 5
    #: Hold register := P·constant, as a score. Machines with ``Config.functions``, as the next one.
    SET = 6
    #: S += P·constant, or S = min(S, 0) + P·constant with ``first``.
    ADD = 7
    #: Downward sum of P·slice of S, which is still in the accumulator. Machines with ``Config.entropy``.
    ENT = 8
    #: S += bias of a row: ``index`` is the row, in every other one nothing is added.
    BIAS = 9


#: Stages that a program may use: an operation's tile started at most ``STAGES - 1`` iterations ago.
STAGES = 16

#: Where each field of a microword lies.
MICROWORD = Layout(
    "Microword",
    "What one slot of the initiation interval does.",
    (
        Field("op", 4, "Main operation (Op)."),
        Field("stage", 4, "Stage of the main operation's tile."),
        Field(
            "index",
            10,
            "Head dim index: e of QK, f of SLNV, F for SUM; slice of ENT, which is its f; row of BIAS; of SET and ADD the "
            "constant's significand, two's complement.",
        ),
        Field(
            "first",
            1,
            "First operation of its kind for the tile: QK loads S instead of adding; K, V, Q or bias must be there. Of the "
            "numerators the first one begins an output row. EXP: of -|S|; LIN: of max(S, 0); ADD: to min(S, 0).",
        ),
        Field("last", 1, "Last operation of its kind for the tile: frees the buffer that it read."),
        Field(
            "max",
            1,
            "MAX: downward maximum of a tile's scores, which move to its hold register. Of the stage 1 tile, in slot 0, "
            "beside the first QK or alone; with dst of the word's own tile, in any slot.",
        ),
        Field(
            "mask",
            1,
            "In SUM's slot, or a slot without operation: the rows that the stage 0 tile's queries see come down the columns.",
        ),
        Field(
            "src",
            1,
            "Hold register that the operation reads: 0 the tile's, 1 the spare one. QK: 1 for a key of 0, so that with first S "
            "is 0; it waits for nothing then.",
        ),
        Field("dst", 1, "Hold register that EXP, LIN and SET write, likewise; with max see there."),
        Field(
            "constant",
            8,
            "EXP with fixed_reference: the reference. SET, ADD: right shift of the product of weight and significand. Else 0.",
            signed=True,
        ),
    ),
)

#: Largest size of the significand of a constant, as of a bfloat16 number.
MOST_SIG = 255

PROGRAM_MAGIC = 0x58414D46  # "FMAX"
PROGRAM_VERSION = 3

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

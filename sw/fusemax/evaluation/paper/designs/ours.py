"""Ours: Cascade 5 as this repository's machine runs it, at the paper's size, clock and memory.

A tile takes E + F + 2 slots: the maximum is found beside a multiplication of the next tile, and the exponential is one
multiplication, its integer part being a shift and its fraction a table. The reference is an integer too, so PRM is a power of
two: the lane shifts and adds in one step (SPD with RD, SPNV with RNV) and never binds. F divisions are a reciprocal and F
products.
"""

from __future__ import annotations

from collections.abc import Callable

from ....arith.state import STATE_BITS
from ....cascade import CASCADES
from ....compiler.mapper import map_cascade
from ....compiler.operations import Unit as Part
from ....spec import CONFIGS, ceil_div
from ..machine import FUSEMAX_MACHINE, WORD_BYTES, Machine, Operation, Unit
from ..plan import Move, Phase, Stage, Work
from ..ranks import Ranks
from ..workloads import Model
from .design import Design, ranks_of
from .one_pass import CASCADE_5, bind

__all__ = ["OURS", "OURS_PHASE", "QUERY_BITS", "REFERENCE_BITS", "ours_moves"]

MAC, ADD, DIVIDE = Operation.MAC, Operation.ADD, Operation.DIVIDE

#: Bits of a scaled query element (operand and exponent word), and of a reference with its valid bit.
QUERY_BITS, REFERENCE_BITS = 27, CONFIGS["paper"].reference_bits + 1
WORD_BITS = 8 * WORD_BYTES


def names_on(part: Part) -> str:
    """Einsums that the compiled program leaves to a part of the machine."""
    return " ".join(step.einsum.result.tensor for step in map_cascade(CASCADES["attention_1pass"]).steps if step.unit is part)


#: The cascade's own operations, but for those that the machine does otherwise. The sum of the weights is a numerator with
#: v = 1 and billed as one (docs/decisions/0002). AV has a multiplier of its own behind the lane's adder and takes none of its
#: slots.
BOUND = bind(
    array=CASCADE_5.evaluated(names_on(Part.ARRAY)) | {"SLN": {MAC: 1}, "SLD": {MAC: 1}},
    lanes=CASCADE_5.evaluated(names_on(Part.LANE)) | {"PRM": {ADD: 1}, "SPD": {}, "SPNV": {}, "AV": {MAC: 1}},
    slots={"LM": 0, "PRM": 0, "AV": 0},
)
#: What Cascade 5 does not name: queries times scale as they are loaded, and the reciprocal of the denominator.
AROUND = (
    Work("scaled Q", "e p", Unit.LANES, "p", {MAC: 1}, slots=0),
    Work("1/RD", "p", Unit.LANES, "p", {DIVIDE: 1}, slots=0),
)
OURS_PHASE = Phase((*BOUND("BQK LM SLN SLD SLNV RM PRM SPD RD SPNV RNV AV"), *AROUND))


def ours_moves(ranks: Ranks, groups: int, row_words: Callable[[int], int], output_words: int = 1) -> tuple[Move, ...]:
    """What moves, in 16-bit words also where words on chip are wider.

    Parameters
    ----------
    groups
        Groups of query tiles: how often keys and values are read.
    row_words
        Words of memory that are moved for a row of so many elements.
    output_words
        Words of an output element.
    """
    count = ranks.count
    query, state, reference = (bits / WORD_BITS for bits in (QUERY_BITS, STATE_BITS, REFERENCE_BITS))
    rows = groups * count("m")
    keys, values = (row_words(ranks[rank]) * rows for rank in "ef")
    return (
        Move(
            tensor="Q",
            memory_reads=row_words(ranks["e"]) * count("p"),
            requests=count("p"),
            buffer_writes=query * count("e p"),
            buffer_reads=query * count("e m1 p"),
        ),
        Move(tensor="K", memory_reads=keys, requests=rows, buffer_writes=keys, buffer_reads=count("e m t")),
        Move(tensor="V", memory_reads=values, requests=rows, buffer_writes=values, buffer_reads=count("f m t")),
        Move(tensor="RM", buffer_reads=reference * count("m1 p"), buffer_writes=reference * count("m1 p")),
        Move(tensor="RD", buffer_reads=state * count("m1 p"), buffer_writes=state * count("m1 p")),
        # The numerators of a query's last key tile go to the output as they come, without a second read.
        Move(tensor="RNV", buffer_reads=state * count("f m1 p"), buffer_writes=state * count("f m1 p")),
        Move(tensor="AV", memory_writes=output_words * count("f p")),
    )


def resident_tiles(ranks: Ranks, machine: Machine) -> int:
    """Query tiles that the buffer holds beside two tiles of keys and values, in the words' own widths."""
    free = 8 * machine.buffer_bytes - 2 * WORD_BITS * machine.rows * (ranks["e"] + ranks["f"])
    query_bits = QUERY_BITS * ranks["e"] + STATE_BITS * (ranks["f"] + 1) + REFERENCE_BITS
    return free // (query_bits * machine.columns)


def attention(model: Model, tokens: int) -> tuple[Stage, ...]:
    ranks = ranks_of(model, tokens, FUSEMAX_MACHINE)
    groups = ceil_div(ranks["t"], resident_tiles(ranks, FUSEMAX_MACHINE))
    return (Stage("attention", ranks, (OURS_PHASE,), ours_moves(ranks, groups, lambda elements: elements)),)


OURS = Design("ours", "ours", FUSEMAX_MACHINE, attention)

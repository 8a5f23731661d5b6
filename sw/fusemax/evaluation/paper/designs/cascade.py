"""+Cascade: Cascade 5 on FLAT's machine, whose PEs only multiply and add.

Maximum, exponential and sum of all M·P scores are left to the lanes, so scores and weights go through the buffer.
"""

from __future__ import annotations

from ..energy import wrapped
from ..machine import FLAT_MACHINE, MIB, Operation
from ..plan import Move, Phase, Stage
from ..workloads import Model
from .design import Design, ranks_of
from .one_pass import CASCADE_5, bind, group_tiles, moves

__all__ = ["CASCADE"]

#: The artifact's energy leaves out the exponentials, a misspelt key; their slots are counted.
BOUND = bind(
    array=CASCADE_5.evaluated("BQK SLNV"),
    lanes=CASCADE_5.evaluated("LM RM SLN SLD PRM SPD RD SPNV RNV AV"),
    unbilled=(Operation.EXP,),
)
PHASES = (Phase(BOUND("BQK SLNV LM RM SLN SLD PRM SPD RD SPNV RNV AV")),)
#: Groups of query tiles are chosen for half of the buffer that FLAT's machine has.
GROUP_BYTES = 16 * MIB


def attention(model: Model, tokens: int) -> tuple[Stage, ...]:
    machine = FLAT_MACHINE
    ranks = ranks_of(model, tokens, machine)
    query_words = ranks["e"] + ranks["f"] + 2 + 2 * machine.rows
    tiles = group_tiles(ranks, machine, GROUP_BYTES, query_words)
    scores = ranks.count("m p")
    extra = wrapped(scores, tiles * machine.rows * machine.columns)
    through_buffer = tuple(
        Move(tensor=tensor, buffer_writes=scores, buffer_reads=scores, wrapped_reads=extra) for tensor in ("BQK", "SLN")
    )
    return (Stage("attention", ranks, PHASES, (*moves(ranks, machine, tiles), *through_buffer)),)


CASCADE = Design("cascade", "+Cascade", FLAT_MACHINE, attention)

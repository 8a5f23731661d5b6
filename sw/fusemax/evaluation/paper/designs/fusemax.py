"""+Architecture and +Binding: Cascade 5 on the published array, whose PEs find maxima and evaluate exponentials themselves.

An exponential is six multiply-accumulates behind a subtraction, in PEs and lanes.
"""

from __future__ import annotations

from functools import partial

from ..machine import FUSEMAX_MACHINE, Machine, Operation
from ..plan import Phase, Stage
from ..ranks import Ranks
from ..workloads import Model
from .design import Design, ranks_of
from .one_pass import CASCADE_5, bind, group_tiles, moves

__all__ = ["ARCHITECTURE", "BINDING", "BINDING_PHASES", "stages"]

UNITS = {Operation.EXP: {Operation.MAC: 6}}

BOUND = bind(
    array=CASCADE_5.evaluated("BQK LM SLN SLD SLNV", UNITS),
    lanes=CASCADE_5.evaluated("RM PRM SPD RD SPNV RNV AV", UNITS),
)

#: Tile by tile: after the maximum the array waits until it has come down all rows.
ARCHITECTURE_PHASES = (
    Phase(BOUND("BQK LM RD AV"), stall="m1 m0 t"),
    Phase(BOUND("RM")),
    Phase(BOUND("SLN SLD PRM SPD")),
    Phase(BOUND("SLNV SPNV RNV")),
)
#: BQK of a tile interleaved with SLNV of an earlier one (the paper's waterfall diagram).
BINDING_PHASES = (
    Phase(BOUND("BQK LM RD RNV AV")),
    Phase(BOUND("RM")),
    Phase(BOUND("SLN SLD PRM SPD")),
    Phase(BOUND("SLNV SPNV")),
)


def stages(ranks: Ranks, machine: Machine, phases: tuple[Phase, ...]) -> tuple[Stage, ...]:
    """Stages on a machine of any size; of a query, Q, RM, RD and RNV are on chip."""
    tiles = group_tiles(ranks, machine, machine.buffer_bytes, ranks["e"] + ranks["f"] + 2)
    return (Stage("attention", ranks, phases, moves(ranks, machine, tiles)),)


def attention(model: Model, tokens: int, phases: tuple[Phase, ...]) -> tuple[Stage, ...]:
    return stages(ranks_of(model, tokens, FUSEMAX_MACHINE), FUSEMAX_MACHINE, phases)


ARCHITECTURE = Design("arch", "+Architecture", FUSEMAX_MACHINE, partial(attention, phases=ARCHITECTURE_PHASES))
BINDING = Design("binding", "+Binding (FuseMax)", FUSEMAX_MACHINE, partial(attention, phases=BINDING_PHASES))

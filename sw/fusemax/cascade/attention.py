"""Attention in one pass over the keys.

Cascade 5 of Nayak et al., *FuseMax: Leveraging Extended Einsums to Optimize Attention Accelerator Design*, MICRO 2024
(arXiv 2406.10491), equations 39 to 55. The machine evaluates ``exp`` to base 2, the factor log2(e) being part of the
query scale, and rounds RM up to an integer, so that PRM is a power of two and the two Einsums that multiply by it are
shifts (docs/microarchitecture.md, section 1).
"""

from __future__ import annotations

from .cascade import Cascade, Operation, Step, Unit
from .einsum import Einsum

__all__ = ["ATTENTION_1PASS"]

ATTENTION_1PASS = Cascade(
    name="attention_1pass",
    tile_rank="m1",
    space_ranks=("m0", "p"),
    steps=(
        Step(Einsum("BK[e, m1, m0] = K[e, m1*M0+m0]"), Unit.EDGE),
        Step(Einsum("BV[f, m1, m0] = V[f, m1*M0+m0]"), Unit.EDGE),
        Step(Einsum("RM[0, p] = -inf"), Unit.LANE),
        Step(Einsum("RD[0, p] = 0"), Unit.LANE),
        Step(Einsum("RNV[f, 0, p] = 0"), Unit.LANE),
        Step(Einsum("BQK[m1, m0, p] = Q[e, p] * BK[e, m1, m0]"), Unit.ARRAY, Operation.QK),
        Step(Einsum("LM[m1, p] = BQK[m1, m0, p] ::max(m0)"), Unit.ARRAY, Operation.MAX),
        Step(Einsum("RM[m1+1, p] = max(RM[m1, p], LM[m1, p])"), Unit.LANE),
        Step(Einsum("SLN[m1, m0, p] = exp(BQK[m1, m0, p] - RM[m1+1, p])"), Unit.ARRAY, Operation.EXP),
        Step(Einsum("SLD[m1, p] = SLN[m1, m0, p]"), Unit.ARRAY, Operation.SUM),
        Step(Einsum("SLNV[f, m1, p] = SLN[m1, m0, p] * BV[f, m1, m0]"), Unit.ARRAY, Operation.SLNV),
        Step(Einsum("PRM[m1, p] = exp(RM[m1, p] - RM[m1+1, p])"), Unit.LANE),
        Step(Einsum("SPD[m1, p] = RD[m1, p] * PRM[m1, p]"), Unit.LANE),
        Step(Einsum("RD[m1+1, p] = SLD[m1, p] + SPD[m1, p]"), Unit.LANE),
        Step(Einsum("SPNV[f, m1, p] = RNV[f, m1, p] * PRM[m1, p]"), Unit.LANE),
        Step(Einsum("RNV[f, m1+1, p] = SLNV[f, m1, p] + SPNV[f, m1, p]"), Unit.LANE),
        Step(Einsum("AV[f, p] = RNV[f, M1, p] / RD[M1, p]"), Unit.LANE),
    ),
)

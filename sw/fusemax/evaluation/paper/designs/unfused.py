"""Unfused: score product, softmax and value product one after the other, scores and weights in memory between them."""

from __future__ import annotations

from ..machine import FLAT_MACHINE
from ..plan import Move, Phase, Stage
from ..workloads import Model
from .design import Design, ranks_of
from .softmax import SOFTMAX, matrix_product, softmax_moves

__all__ = ["UNFUSED"]

#: Longest sequence whose keys or values the mapper's choice reads only once.
LONGEST_READ_ONCE = 65536

QK = Phase((matrix_product("QK", "m p"),))
AV = Phase((matrix_product("AV", "m p"),))


def attention(model: Model, tokens: int) -> tuple[Stage, ...]:
    ranks = ranks_of(model, tokens, FLAT_MACHINE)
    count = ranks.count
    scores = count("m p")
    reads = 1 if tokens <= LONGEST_READ_ONCE else ranks["e"] // 8
    sums = count("f m1 p")
    score_moves = (
        Move(tensor="Q", memory_reads=count("e p"), buffer_writes=count("e p"), buffer_reads=count("e m1 p")),
        Move(tensor="K", memory_reads=reads * count("e m"), buffer_writes=reads * count("e m"), buffer_reads=count("e m t")),
        Move(tensor="QK", memory_writes=scores),
    )
    value_moves = (
        Move(tensor="A", memory_reads=scores),
        Move(tensor="V", memory_reads=reads * count("f m"), buffer_writes=reads * count("f m"), buffer_reads=count("f m t")),
        # The first of M1 partial sums is not read.
        Move(tensor="AV", memory_writes=count("f p"), buffer_writes=sums, buffer_reads=sums - count("f p")),
    )
    return (
        Stage("QK", ranks, (QK,), score_moves),
        Stage("softmax", ranks, (Phase(SOFTMAX),), softmax_moves(ranks, off_chip=True)),
        Stage("AV", ranks, (AV,), value_moves),
    )


UNFUSED = Design("unfused", "Unfused", FLAT_MACHINE, attention)

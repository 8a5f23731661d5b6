"""Cascade 4, attention in three passes, and its softmax on the lanes."""

from __future__ import annotations

from collections.abc import Mapping

from ..energy import wrapped
from ..machine import Unit
from ..plan import Move, Work
from ..ranks import Ranks
from .einsums import Einsums

__all__ = ["EINSUMS", "SOFTMAX", "matrix_product", "softmax_moves"]

#: Equations 33 to 38.
CASCADE_4 = Einsums.of("attention_3pass")
#: Iteration space of every Einsum.
EINSUMS: Mapping[str, str] = CASCADE_4.ranks


def on_lanes(name: str) -> Work:
    """A pipelined unit for every operation: a slot each, whatever it is."""
    return Work(name, EINSUMS[name], Unit.LANES, "m", CASCADE_4.operations[name], slots=1)


SOFTMAX: tuple[Work, ...] = tuple(on_lanes(name) for name in ("GM", "SN", "SD", "A"))


def matrix_product(name: str, space: str) -> Work:
    """QK or AV on the array, with these ranks on its rows and columns."""
    return Work(name, EINSUMS[name], Unit.ARRAY, space, CASCADE_4.operations[name])


def softmax_moves(ranks: Ranks, *, off_chip: bool) -> tuple[Move, ...]:
    """What the softmax moves: scores from memory and weights to memory if they are ``off_chip``, all through the buffer."""
    scores, queries = ranks.count("m p"), ranks.count("p")
    return (
        Move(tensor="QK", memory_reads=scores * off_chip, buffer_writes=scores, buffer_reads=2 * scores),
        Move(tensor="GM", buffer_writes=queries, buffer_reads=queries),
        Move(tensor="SN", buffer_writes=scores, buffer_reads=scores, wrapped_reads=wrapped(scores, ranks["m"])),
        Move(tensor="SD", buffer_writes=queries, buffer_reads=queries),
        Move(tensor="A", memory_writes=scores * off_chip),
    )

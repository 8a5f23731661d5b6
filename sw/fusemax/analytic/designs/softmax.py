"""Cascade 4, attention in three passes, and its softmax on the lanes."""

from __future__ import annotations

from ..energy import Operation, wrapped
from ..machine import Unit
from ..plan import Move, Work
from ..ranks import Ranks

__all__ = ["EINSUMS", "SOFTMAX", "matrix_product", "softmax_moves"]

#: Iteration space of every Einsum (equations 33 to 38).
EINSUMS: dict[str, str] = {"QK": "e m p", "GM": "m p", "SN": "m p", "SD": "m p", "A": "m p", "AV": "f m p"}


def on_lanes(name: str, operations: dict[Operation, int]) -> Work:
    """A pipelined unit for every operation: a slot each, whatever it is."""
    return Work(name, EINSUMS[name], Unit.LANES, "m", operations, slots=1)


SOFTMAX: tuple[Work, ...] = (
    on_lanes("GM", {Operation.MAX: 1}),
    on_lanes("SN", {Operation.ADD: 1, Operation.EXP: 1}),
    on_lanes("SD", {Operation.ADD: 1}),
    on_lanes("A", {Operation.DIVIDE: 1}),
)


def matrix_product(name: str, space: str) -> Work:
    """QK or AV on the array, with these ranks on its rows and columns."""
    return Work(name, EINSUMS[name], Unit.ARRAY, space, {Operation.MAC: 1})


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

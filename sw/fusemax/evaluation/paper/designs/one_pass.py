"""Cascade 5, attention in one pass over the keys: its Einsums, and the mapping that all designs with it share.

Mapping 1 of the paper: a group of query tiles stays on chip, every key tile passes by once per group.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..energy import wrapped
from ..machine import WORD_BYTES, Machine, Operation, Unit
from ..plan import Move, Work
from ..ranks import Ranks
from .einsums import Einsums

__all__ = ["CASCADE_5", "EINSUMS", "bind", "group_tiles", "moves"]

#: Equations 44 to 55: what ``attention_1pass``, and so the program of our array, is made of.
CASCADE_5 = Einsums.of("attention_1pass")
#: Iteration space of every Einsum.
EINSUMS: Mapping[str, str] = CASCADE_5.ranks
#: Ranks in space, by unit: keys of a tile on the rows, queries on the columns and on the lanes.
SPACE = {Unit.ARRAY: "m0 p", Unit.LANES: "p"}


def bind(
    array: Mapping[str, Mapping[Operation, int]],
    lanes: Mapping[str, Mapping[Operation, int]],
    slots: Mapping[str, int] | None = None,
    unbilled: tuple[Operation, ...] = (),
) -> Callable[[str], tuple[Work, ...]]:
    """Binding of all Einsums: a function from names, as in ``"BQK LM"``, to bound Einsums.

    Parameters
    ----------
    array, lanes
        Operations of each point of the Einsums that are evaluated there.
    slots
        Issue slots of those whose slots are not as many as their operations.

    Raises
    ------
    ValueError
        If an Einsum is bound twice or not at all.
    """
    if sorted([*array, *lanes]) != sorted(EINSUMS):
        raise ValueError(f"{', '.join(EINSUMS)} must be bound once each, not {', '.join([*array, *lanes])}")
    works = {
        name: Work(name, EINSUMS[name], unit, SPACE[unit], operations, (slots or {}).get(name), unbilled)
        for unit, bound in ((Unit.ARRAY, array), (Unit.LANES, lanes))
        for name, operations in bound.items()
    }
    return lambda names: tuple(works[name] for name in names.split())


def group_tiles(ranks: Ranks, machine: Machine, buffer_bytes: int, query_words: int) -> int:
    """Query tiles of a group (P1): the largest divisor of their number whose queries fit, ``query_words`` words each.

    The rest of the buffer holds a tile of keys and values.
    """
    free = buffer_bytes - WORD_BYTES * machine.rows * (ranks["e"] + ranks["f"])
    most = free // (WORD_BYTES * machine.columns * query_words)
    return max(tiles for tiles in range(1, ranks["t"] + 1) if ranks["t"] % tiles == 0 and tiles <= most)


def moves(ranks: Ranks, machine: Machine, tiles: int) -> tuple[Move, ...]:
    """What moves, with ``tiles`` query tiles in a group: nothing of the size M·P does."""
    count, groups = ranks.count, ranks["t"] // tiles
    sums = count("f m1 p")
    return (
        Move(tensor="Q", memory_reads=count("e p"), buffer_writes=count("e p"), buffer_reads=count("e m1 p")),
        Move(
            tensor="K",
            memory_reads=groups * count("e m"),
            buffer_writes=groups * count("e m"),
            buffer_reads=count("e m t"),
        ),
        Move(
            tensor="V",
            memory_reads=groups * count("f m"),
            buffer_writes=groups * count("f m"),
            buffer_reads=count("f m t"),
        ),
        Move(tensor="RM", buffer_reads=count("m1 p"), buffer_writes=count("m1 p")),
        Move(tensor="RD", buffer_reads=count("m1 p") + count("p"), buffer_writes=count("m1 p")),
        Move(
            tensor="RNV",
            buffer_reads=sums + count("f p"),
            buffer_writes=sums,
            wrapped_reads=wrapped(sums, tiles * machine.columns * ranks["f"]),
        ),
        Move(tensor="AV", memory_writes=count("f p")),
    )

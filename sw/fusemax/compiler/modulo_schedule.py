"""Modulo schedule of one tile.

Tiles start every ``ii`` slots; an operation at offset *o* is issued in slot *o* mod ``ii`` of the iteration that comes
*o* div ``ii`` (its stage) after the tile's first one. No two main operations of a tile share a slot, so overlapping tiles
never meet. (Rau, *Iterative Modulo Scheduling*, MICRO 1994; kernel-only code with stage predicates.)
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from ..errors import ScheduleError
from ..spec import STAGES, Config, Timing
from .array_program import ArrayProgram, Dependence, Operation
from .placed import Placed
from .schedule import Schedule

__all__ = ["Binding", "modulo_schedule"]


class Binding(enum.Enum):
    """What of two tiles may be under way at the same time."""

    #: Nothing: a tile's first QK follows the last SLNV of the tile before.
    SERIAL = "serial"
    #: Tiles overlap; MAX has a slot of its own as every other operation.
    OVERLAPPED = "overlapped"
    #: Tiles overlap; MAX is issued beside the next tile's first QK.
    CO_ISSUED = "co-issued"


def modulo_schedule(
    program: ArrayProgram,
    config: Config,
    e: int,
    f: int,
    *,
    timing: Timing | None = None,
    binding: Binding = Binding.CO_ISSUED,
) -> Schedule:
    """Find the schedule with the smallest initiation interval that the machine can run.

    Every interval from the number of main operations and :attr:`fusemax.spec.Timing.recurrence` upward is tried; the
    first is ``e + f + 2`` for attention. What is placed greedily ends as early as it can, so a larger interval is taken
    only if no placement fits the hold registers at a smaller one.

    Parameters
    ----------
    program
        What the array does for a tile (:func:`fusemax.compiler.recognizer.recognise`).
    config
        The machine.
    e, f
        Head dim of queries and keys, and of values.
    timing
        Latencies in cycles; the machine's if not given.
    binding
        What of two tiles may overlap. The slower ones are there to measure what overlap and co-issue are worth
        (docs/measurements/ablation.md): e + f + 3 slots, and e + f and the waits for the reference and for the weights.

    Returns
    -------
    Schedule
        Slots of a tile's operations.

    Raises
    ------
    ValueError
        If ``e`` and ``f`` are one rank of the cascade, but differ.
    ScheduleError
        If no interval up to ``config.program_words`` fits.
    """
    timing = timing or Timing(config)
    counts = program.slots(e, f)
    main_operations = sum(count for operation, count in counts.items() if operation.op is not None)
    for ii in range(max(main_operations, timing.recurrence), config.program_words + 1):
        offsets = _place(program, counts, timing, ii, binding)
        if offsets is None:
            continue
        placed = tuple(sorted(offsets, key=lambda p: (p.offset, p.operation.op is not None)))
        last = placed[-1].offset
        # The scores' hold register is written again beside MAX of the tile `holds` later, in its slot `ii`.
        if last < ii * (config.holds + 1) and last < ii * STAGES:
            return Schedule(config, e, f, ii, placed)
    raise ScheduleError(
        f"head dims E={e}, F={f} must have a schedule of at most {config.program_words} microwords with "
        f"{config.holds} hold registers on {config.name!r}, but have none"
    )


def _place(
    program: ArrayProgram, counts: dict[Operation, int], timing: Timing, ii: int, binding: Binding
) -> list[Placed] | None:
    """Operations of a tile at initiation interval ``ii``: MAX in the next tile's slot 0, the rest around it.

    None if they do not fit.
    """
    behind = list(_place_behind_maximum(program, counts, timing, ii))
    taken = {p.offset % ii for p in behind if p.operation.op is not None}
    if binding is Binding.SERIAL:
        free = list(range(max(p.offset for p in behind) - ii + 1, ii))
    else:
        free = [slot for slot in range(0 if binding is Binding.CO_ISSUED else 1, ii) if slot not in taken]
    count = counts[Operation.QK]
    if len(free) < count:
        return None
    scores = (Placed(Operation.QK, index, slot) for index, slot in enumerate(free[:count]))
    return [*scores, Placed(Operation.MAX, 0, ii), *behind]


def _place_behind_maximum(program: ArrayProgram, counts: dict[Operation, int], timing: Timing, ii: int) -> Iterator[Placed]:
    """Operations that need the new reference, each as early as it can be, and MASK beside SUM."""
    taken = {0}
    issued: dict[Operation, int] = {Operation.MAX: ii}
    order = [operation for operation in program.operations if operation not in (Operation.QK, Operation.MAX)]
    previous = ii
    for operation in order:
        distances = [
            issued[dependence.producer] + _distance(dependence, timing)
            for dependence in program.dependences
            if dependence.consumer is operation and dependence.producer in issued
        ]
        # The order of the Einsums is kept too: a denominator is issued before its numerators.
        offset = max(previous + 1, *distances)
        for index in range(counts[operation]):
            while offset % ii in taken:
                offset += 1
            taken.add(offset % ii)
            yield Placed(operation, index, offset)
            previous = offset
            offset += 1
        issued[operation] = previous
        if operation is Operation.SUM:
            yield Placed(Operation.MASK, 0, previous % ii)


def _distance(dependence: Dependence, timing: Timing) -> int:
    """Smallest number of slots from ``producer`` to ``consumer`` of the same tile."""
    if dependence.through_lane:
        return timing.max_to_exp
    if dependence.producer is Operation.EXP:
        return timing.exp_to_sum
    return 1

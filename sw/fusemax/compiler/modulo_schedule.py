"""Modulo schedule of one tile, for any list of micro operations.

Tiles start every ``ii`` slots; an operation at offset *o* is issued in slot *o* mod ``ii`` of the iteration that comes
*o* div ``ii`` (its stage) after the tile's first one. No two main operations of a tile share a slot, so overlapping tiles
never meet. (Rau, *Iterative Modulo Scheduling*, MICRO 1994; kernel-only code with stage predicates.)

The accumulator is the one register that a tile does not have for itself. So the operations are placed in three parts: the
*chain*, which uses a finished score in the accumulator, ends as late as it can, when the next tile's first QK overwrites it;
the *tail* behind it, which uses hold registers only, comes as early as it can; QKs take the slots that are left.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence

from ..errors import ScheduleError
from ..spec import STAGES, Config, Timing
from .micro import Edge, Micro, Operation, Register, edges
from .placed import in_order
from .schedule import Schedule

__all__ = ["Binding", "modulo_schedule"]

#: Operations that a score is made of.
SCORES = (Operation.QK, Operation.BIAS)


class Binding(enum.Enum):
    """What of two tiles may be under way at the same time."""

    #: Nothing: a tile's first QK follows the last SLNV of the tile before.
    SERIAL = "serial"
    #: Tiles overlap; MAX has a slot of its own as every other operation.
    OVERLAPPED = "overlapped"
    #: Tiles overlap; MAX is issued beside the next tile's first QK.
    CO_ISSUED = "co-issued"


def modulo_schedule(
    program: Sequence[Micro],
    config: Config,
    e: int,
    f: int,
    *,
    timing: Timing | None = None,
    binding: Binding = Binding.CO_ISSUED,
    spare_hold: bool = False,
) -> Schedule:
    """Find the schedule with the smallest initiation interval that the machine can run.

    Every interval from the number of main operations and :attr:`fusemax.spec.Timing.recurrence` upward is tried; the
    first is ``e + f + 2`` for attention. What is placed greedily ends as early as it can, so a larger interval is taken
    only if no placement fits the hold registers at a smaller one.

    Parameters
    ----------
    program
        Micro operations of a tile (:func:`fusemax.compiler.lowering.lower`).
    config
        The machine.
    e, f
        Head dim of queries and keys, and of values.
    timing
        Latencies in cycles; the machine's if not given.
    binding
        What of two tiles may overlap. The slower ones are there to measure what overlap and co-issue are worth
        (docs/measurements/ablation.md): e + f + 3 slots, and e + f and the waits for the reference and for the weights.
    spare_hold
        The last hold register is the spare one, so that tiles rotate over one register fewer.

    Returns
    -------
    Schedule
        Slots of a tile's operations.

    Raises
    ------
    ScheduleError
        If no interval up to ``config.program_words`` fits.
    """
    timing = timing or Timing(config)
    tile = _Tile(program, timing, binding, config.holds - spare_hold)
    for ii in range(max(tile.slots, timing.recurrence), config.program_words + 1):
        offsets = tile.place(ii)
        if offsets is not None:
            return Schedule(config, e, f, ii, in_order((tile.program[number], offset) for number, offset in offsets.items()))
    raise ScheduleError(
        f"head dims E={e}, F={f} must have a schedule of at most {config.program_words} microwords with "
        f"{config.holds} hold registers on {config.name!r}, but have none"
    )


class _Tile:
    """A tile's operations and what their order demands.

    Members
    -------
    program
        Operations; MASK is the last one.
    slots
        Operations that take a slot.
    """

    def __init__(self, program: Sequence[Micro], timing: Timing, binding: Binding, rotating: int) -> None:
        if binding is not Binding.CO_ISSUED:
            program = [micro if not micro.rides else Micro(micro.operation, target=micro.target) for micro in program]
        self.program = (*program, Micro(Operation.MASK))
        self.binding, self.rotating = binding, rotating
        self.slots = sum(not micro.rides for micro in program)
        self.edges: list[Edge] = edges(program, timing)
        self.before: dict[int, list[Edge]] = {}
        self.after: dict[int, list[Edge]] = {}
        for edge in self.edges:
            self.before.setdefault(edge.after, []).append(edge)
            self.after.setdefault(edge.before, []).append(edge)
        uses = [
            number
            for number, micro in enumerate(program)
            if micro.writes is Register.SCORE or any(register is Register.SCORE for register, _ in micro.reads)
        ]
        count = next((number for number, micro in enumerate(program) if micro.operation not in SCORES), len(program))
        self.scores = range(count)
        self.chain = range(count, uses[-1] + 1)
        self.tail = range(uses[-1] + 1, len(program))
        self.moves = [number for number, micro in enumerate(program) if micro.operation is Operation.MAX]
        self.total = next(number for number, micro in enumerate(program) if micro.operation is Operation.SUM)

    def place(self, ii: int) -> dict[int, int] | None:
        """Offsets of the operations at an initiation interval, by their numbers; none if they do not fit."""
        # SUM in the chain comes to slot 0, where MASK may ride on it; what is behind it, to the slots behind.
        behind = len(self.chain) - self.chain.index(self.total) if self.total in self.chain else 0
        for own_mask in (False, True):
            for late in dict.fromkeys((0, behind) if own_mask else (behind, 0)):
                for room in (True, False):
                    offsets = self._place(ii, own_mask, room, late)
                    if offsets is not None:
                        return offsets
        return None

    def _place(self, ii: int, own_mask: bool, room: bool, late: int) -> dict[int, int] | None:
        """Place chain, tail and scores.

        ``own_mask``: MASK has a slot of its own, not SUM's. ``room``: the tail leaves the slots in front of the chain to QKs.
        ``late``: slots of the next iteration that the chain's end takes, before that iteration's QKs.
        """
        chain = self._place_chain(ii, late)
        if chain is None:
            return None
        taken = {offset % ii for offset in chain.values()}
        start = min((chain[number] for number in self.chain if not self.program[number].rides), default=ii)
        wanted = len(self.scores) + own_mask + late
        tail = self._place_tail(ii, chain, taken, start - wanted if room else ii)
        if tail is None:
            return None
        offsets = chain | tail
        taken |= {offset % ii for offset in tail.values()}
        first = late
        if self.binding is Binding.SERIAL:
            first = max(late, max(offsets.values()) - ii + 1)
        free = [slot for slot in range(first, min(start, ii)) if slot not in taken or (slot == 0 and self._rides)]
        if len(free) < wanted - late or (self._rides and free[0] != 0):
            return None
        mask = offsets[self.total] % ii
        if own_mask:
            mask = free.pop(1) if len(free) > 1 else free.pop(0)
        free = self._end_scores(free, offsets, ii)
        offsets |= dict(zip(self.scores, free, strict=False))
        offsets[len(self.program) - 1] = mask
        return offsets if self._fits(offsets, mask, ii) else None

    def _end_scores(self, free: list[int], offsets: dict[int, int], ii: int) -> list[int]:
        """Slots of the scores, the last one early enough for the chain: if it is not, it and the tail's last operation change
        places.
        """
        free, last = free[: len(self.scores)], self.scores[-1]
        latest = min((offsets[edge.after] - edge.slots for edge in self.after[last] if edge.after in offsets), default=ii)
        if free[-1] <= latest or not self.tail:
            return free
        moved = self.tail[-1]
        offset, slot = offsets[moved], free[-1]
        if offset % ii > latest:
            return free
        offsets[moved] = offset + (slot - offset) % ii
        return sorted([*free[:-1], offset % ii])

    @property
    def _rides(self) -> bool:
        """Whether an operation rides beside the next tile's first QK."""
        return self.program[self.chain[-1]].rides

    def _place_chain(self, ii: int, late: int) -> dict[int, int] | None:
        """Operations that need the score in the accumulator, each as late as it can be."""
        offsets: dict[int, int] = {}
        alone = self.program[self.chain[0]].operation is Operation.MAX and len(self.chain) == 1
        for number in reversed(self.chain):
            micro = self.program[number]
            if micro.rides or alone:
                offsets[number] = ii
                continue
            # The next tile's first QK is in slot ii + late at the earliest.
            latest = ii - 1 + late
            for edge in self.after.get(number, ()):
                if edge.after in offsets:
                    latest = min(latest, offsets[edge.after] - edge.slots)
            while latest in offsets.values() or (latest % ii == 0 and not (late and number == self.total)):
                latest -= 1
            if latest < len(self.scores) + late:
                return None
            offsets[number] = latest
        return offsets

    def _place_tail(self, ii: int, chain: dict[int, int], taken: set[int], most_before: int) -> dict[int, int] | None:
        """Operations behind the chain, each as early as it can be; at most ``most_before`` in front of the chain's slots."""
        taken = set(taken)
        start = min((chain[number] for number in self.chain if not self.program[number].rides), default=ii)
        reserved = {0} if self._rides or start == ii else set()
        offsets: dict[int, int] = {}
        used, previous = 0, -1
        for number in self.tail:
            earliest = [previous + 1]
            for edge in self.before.get(number, ()):
                where = offsets.get(edge.before, chain.get(edge.before))
                if where is not None:
                    earliest.append(where + edge.slots)
            offset = max(earliest)
            first = offset
            while (slot := offset % ii) in taken or slot in reserved or (slot < start and used >= most_before):
                offset += 1
                if offset > first + 2 * ii:
                    return None
            used += slot < start
            taken.add(slot)
            offsets[number] = previous = offset
        return offsets

    def _fits(self, offsets: dict[int, int], mask: int, ii: int) -> bool:
        """Whether all distances hold, registers live long enough, and the mask comes between the moves of two tiles."""
        if any(offsets[edge.after] - offsets[edge.before] < edge.slots for edge in self.edges):
            return False
        if max(offsets.values()) >= ii * STAGES:
            return False
        moves = [offsets[number] for number in self.moves]
        if not max(moves) - ii < mask < min(moves):
            return False
        return all(
            self._lifetime(register, offsets) < ii * depth
            for register, depth in ((Register.HOLD, self.rotating), (Register.SPARE, 1))
        )

    def _lifetime(self, register: Register, offsets: dict[int, int]) -> int:
        """Slots from a register's first write to its last reader."""
        writes: Iterable[int] = (offsets[n] for n, micro in enumerate(self.program) if micro.writes is register)
        reads = (offsets[n] for n, micro in enumerate(self.program) if any(r is register for r, _ in micro.reads))
        return max(reads, default=0) - min(writes, default=0)

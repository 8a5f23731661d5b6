"""Issue: tiles enter every iteration of the program and wait at three words of it: first QK, SUM, first SLNV."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ...compiler.program import Program
from ...spec import MICROWORD, Config, Op
from ..tiles import is_masked
from .bus import LONG_AGO, UNKNOWN
from .latencies import Latencies
from .load import LoadWalker
from .pairs import PairWalker
from .store import Store
from .walk import GROUP, TILE, Walk

__all__ = ["Issue", "Tile", "Waits"]

#: Jobs that wait in the issue walker's queue.
QUEUE_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Tile:
    """Of a key tile against a query tile: whether it is the query tile's first or last, the key tile's first or last.

    ``new_bits``, ``free_bits``: a block's of mask bits. ``state_out``: what goes out begins with the denominator.
    ``values_in_keys``: SLNV reads the keys' buffer, and frees it.
    """

    first: bool
    last: bool
    new_keys: bool
    free_keys: bool
    new_bits: bool
    free_bits: bool
    state_out: bool
    values_in_keys: bool


class Mark(enum.Enum):
    """Words of a program at which more happens than that a cycle passes."""

    FIRST_QK = enum.auto()
    LAST_QK = enum.auto()
    MASK = enum.auto()
    FIRST_BIAS = enum.auto()
    LAST_BIAS = enum.auto()
    SUM = enum.auto()
    FIRST_SLNV = enum.auto()
    #: SLNVs behind ENTs, which have begun the row.
    FIRST_VALUE = enum.auto()
    FIRST_ENT = enum.auto()
    LAST_SLNV = enum.auto()


@dataclass
class Waits:
    """Cycles in which no word was issued, by cause, and words issued."""

    stall_q: int = 0
    stall_k: int = 0
    stall_v: int = 0
    stall_output: int = 0
    idle: int = 0
    words: int = 0

    def values(self) -> tuple[int, ...]:
        return (self.stall_q, self.stall_k, self.stall_v, self.stall_output, self.idle, self.words)

    def add(self, values: tuple[int, ...], times: int) -> None:
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            setattr(self, name, getattr(self, name) + value * times)


def marks(program: Program) -> list[tuple[int, Mark, int]]:
    """Slot, kind and stage of a program's marks."""
    found = []
    for slot, word in enumerate(map(MICROWORD.unpack, program.microwords)):
        first_slnv = Mark.FIRST_VALUE if word["index"] else Mark.FIRST_SLNV
        kinds = {
            Op.QK: (Mark.FIRST_QK, Mark.LAST_QK),
            Op.SLNV: (first_slnv, Mark.LAST_SLNV),
            Op.ENT: (Mark.FIRST_ENT, Mark.LAST_SLNV),
            Op.BIAS: (Mark.FIRST_BIAS, Mark.LAST_BIAS),
        }.get(Op(word["op"]))
        if word["mask"]:
            found.append((slot, Mark.MASK, 0))
        if word["op"] == Op.QK and word["src"]:
            # A key of 0 is waited for by nobody.
            continue
        if kinds is not None:
            found += [(slot, kind, word["stage"]) for kind, flag in zip(kinds, ("first", "last"), strict=True) if word[flag]]
        elif word["op"] == Op.SUM:
            found.append((slot, Mark.SUM, word["stage"]))
    return found


class Issue(Walk):
    """Issue walker and sequencer.

    An iteration goes on as long as what its tiles wait for is known; then it is left where it is.

    Members
    -------
    base
        Cycle of the running iteration's first word, had nothing later in it been waited for.
    stages
        Tiles under way, youngest first.
    waits
        What has been counted.
    observe
        Called when a key tile's first tile has been taken, before the walker moves on, with whether key tiles may differ.
    """

    def __init__(
        self,
        config: Config,
        loaders: tuple[LoadWalker, ...],
        pairs: tuple[PairWalker, PairWalker],
        store: Store,
        observe: Callable[[bool], None],
    ) -> None:
        super().__init__(QUEUE_DEPTH, Latencies(config))
        self._config = config
        self._period = Latencies(config).issue_tile
        (self._query, self._key, self._value), (self._mask, self._bias) = loaders, pairs
        self._store = store
        self._observe = observe
        self.waits = Waits()
        self.stages: list[Tile | None] = [None] * config.contexts
        self.words_from = UNKNOWN
        self.base = LONG_AGO
        self._marks: list[tuple[int, Mark, int]] = []
        self._mark = 0
        self._ii = 0
        self._running = False
        self._ended = -2  # last cycle of the iteration before; the machine is idle in the cycle before the doorbell is seen
        # Tiles of the key tile: number in the group and tile; the one that is offered. The walker's latest step.
        self._tiles: list[tuple[int, Tile]] = []
        self._next = 0
        self._stepped = self._taken = LONG_AGO
        self._freed: deque[int] = deque()
        self._output_slots = 0

    def start(self) -> None:
        between = self.job is None
        super().start()
        if self.job is None or not between:
            return
        self._stepped = self.offered - self._offer
        self._enter_key_tile(0)
        # Results of another size come with another program, when all buffers are free.
        if self.job.output_slots != self._output_slots:
            self._output_slots = self.job.output_slots
            self._freed = deque([LONG_AGO] * self._output_slots, self._output_slots)

    def load_program(self, cycle: int, program: Program) -> None:
        """In that cycle the store gives its last word of the program before; ``words_from`` is known later."""
        if self._running:
            end = self.base + self._ii - 1
            if end <= cycle:
                self._between(end)
            else:
                # Older tiles are gone, but the last one's iteration has words left. It begins anew with the new program's.
                self.waits.words += cycle + 1 - self.base
                self.base = cycle + 1
                self._mark = -1
        self._marks, self._ii = marks(program), program.ii
        self.words_from = UNKNOWN

    def run(self, sure_until: int) -> None:
        """Go on. What jobs there are is known for all cycles before ``sure_until``."""
        while True:
            if not self._running and not self._begin():
                return
            if self._mark < 0:
                if self.words_from == UNKNOWN:
                    return
                self.waits.idle += max(0, self.words_from - self.base)
                self.base = max(self.base, self.words_from)
                self._mark = 0
            while self._mark < len(self._marks):
                if not self._pass_mark(*self._marks[self._mark]):
                    return
                self._mark += 1
            end = self.base + self._ii - 1
            if self.offered > end and sure_until <= end:
                return
            self.waits.words += self._ii
            self._between(end)

    def finish(self, end: int) -> None:
        """The machine is idle from cycle ``end`` on."""
        if not self._running:
            # Events are counted a cycle later, while the machine is busy.
            self.waits.idle += max(0, end - 2 - self._ended)

    def _begin(self) -> bool:
        """Start the first iteration of several if there is a tile for it."""
        if self.offered == UNKNOWN:
            return False
        cycle = max(self._ended + 1, self.offered)
        self.waits.idle += cycle - self._ended
        self._running = True
        self._next_iteration(cycle)
        return True

    def _between(self, end: int) -> None:
        """The iteration's last word is issued in cycle ``end``."""
        if self.offered <= end or any(self.stages[:-1]):
            self._next_iteration(end)
        else:
            self._running = False
            self._ended = end

    def _next_iteration(self, taken: int) -> None:
        """Tiles move on by a stage; a new one is taken in that cycle if it is offered."""
        self.base = taken + 1
        # Words are always there but behind another program's first.
        self._mark = 0 if self.words_from <= self.base else -1
        del self.stages[-1]
        if self.job is None or self.offered > taken:
            self.stages.insert(0, None)
            return
        number, tile = self._tiles[self._next]
        self.stages.insert(0, tile)
        self._taken = taken
        if tile.new_keys:
            self._observe(is_masked(self.job) or bool(self.job.bit_mask or self.job.bias))
        self._next += 1
        if self._next < len(self._tiles):
            self._offer_next(self._tiles[self._next][0] - number - 1)
            return
        left_out = self.group_tiles - 1 - number
        job_number = self.job_number
        self.step(self._stepped + left_out * self._period, self.job.key_tiles)
        if self.job is not None and self.job_number == job_number:
            self._enter_key_tile(left_out)

    def _enter_key_tile(self, left_out: int) -> None:
        """Offer the first tile of the key tile at hand; so many were left out since the one before."""
        self._tiles, self._next = list(self._key_tile()), 0
        self._offer_next(left_out + self._tiles[0][0])

    def _offer_next(self, left_out: int) -> None:
        """The next tile enters the walker's register, with so many left out before it."""
        self._stepped = max(self._stepped + (left_out + 1) * self._period, self._taken + 1)
        self.offered = self._stepped + 1

    def _key_tile(self) -> Iterator[tuple[int, Tile]]:
        """Tiles of the group that are issued, and their numbers."""
        job = self.job
        assert job is not None
        first_key, last_key = self.at[TILE] == 0, self.at[TILE] == job.key_tiles - 1
        per_block = max(1, self._config.mask_block_tiles)
        place = (job.mask_phase + self.at[TILE]) % per_block
        begins = bool(job.bit_mask) and (first_key or place == 0)
        finishes = bool(job.bit_mask) and (last_key or place == per_block - 1)
        chained = bool(job.continues or job.continued)
        starts, ends = first_key and not job.continued, last_key and not job.continues
        settings, count = (bool(job.state_out), bool(job.values_in_keys)), self.group_tiles
        if chained or not is_masked(job):
            for number in range(count):
                new, free = number == 0, number == count - 1
                yield number, Tile(starts, ends, new, free, new and begins, free and finishes, *settings)
            return
        rows, group = self._config.rows, self.at[GROUP]
        before = group * job.group_tiles - max(0, group - job.large_groups)
        needed = []
        for number in range(count):
            start = (before + number) * self._config.columns // job.share - self.at[TILE] * rows
            lo, hi = job.mask_lo + start, job.mask_hi + start + job.tile_span
            sees_none = (first_key and hi <= 0) or (last_key and lo >= rows)
            if sees_none or (lo < rows and hi > 0):
                needed.append((number, starts or lo >= 0, ends or hi <= rows))
        for number, first, last in needed:
            new, free = number == needed[0][0], number == needed[-1][0]
            yield number, Tile(first, last, new, free, new and begins, free and finishes, *settings)

    def _pass_mark(self, slot: int, mark: Mark, stage: int) -> bool:
        """Whether the word at a mark could be issued, or be passed over, as far as is known."""
        tile = self.stages[stage]
        if tile is None:
            return True
        cycle = self.base + slot
        waits = self.waits
        if mark is Mark.FIRST_QK:
            queries, keys = self._query.loaded, self._key.loaded
            if (tile.first and not queries) or (tile.new_keys and not keys):
                return False
            if tile.first and (there := queries.popleft()) > cycle:
                waits.stall_q += there - cycle
                cycle = there
            if tile.new_keys and (there := keys.popleft()) > cycle:
                waits.stall_k += there - cycle
                cycle = there
        elif mark in (Mark.MASK, Mark.FIRST_BIAS):
            new, walker = (tile.new_bits, self._mask) if mark is Mark.MASK else (tile.new_keys, self._bias)
            if new and not walker.loaded:
                return False
            if new and (there := walker.loaded.popleft()) > cycle:
                waits.stall_q += there - cycle
                cycle = there
            if mark is Mark.MASK and tile.free_bits:
                walker.release(cycle)
        elif mark is Mark.LAST_BIAS:
            if tile.free_keys:
                self._bias.release(cycle)
        elif mark is Mark.LAST_QK:
            if tile.last:
                self._query.release(cycle)
            if tile.free_keys and not tile.values_in_keys:
                self._key.release(cycle)
        elif mark in (Mark.FIRST_SLNV, Mark.FIRST_VALUE):
            waits_for_values = tile.new_keys and not tile.values_in_keys
            if waits_for_values and not self._value.loaded:
                return False
            if waits_for_values and (there := self._value.loaded.popleft()) > cycle:
                waits.stall_v += there - cycle
                cycle = there
            if tile.last and not tile.state_out and mark is Mark.FIRST_SLNV:
                cycle = self._wait_for_output(cycle)
        elif mark is Mark.FIRST_ENT:
            if tile.last and not tile.state_out:
                cycle = self._wait_for_output(cycle)
        elif mark is Mark.SUM:
            if tile.last and tile.state_out:
                cycle = self._wait_for_output(cycle)
        else:
            if tile.free_keys:
                (self._key if tile.values_in_keys else self._value).release(cycle)
            if tile.last:
                self._freed.append(self._store.write(cycle))
            self.stages[stage] = None
        self.base = cycle - slot
        return True

    def _wait_for_output(self, cycle: int) -> int:
        """From that cycle on; the cycle in which there is room for another row of results."""
        there = max(cycle, self._freed[0])
        self.waits.stall_output += there - cycle
        return there

    def state(self) -> tuple[int, ...]:
        """Every cycle that what comes next may depend on."""
        return (self.base, self._stepped, *self._freed)

    def shape(self) -> tuple[object, ...]:
        """What else it depends on, the numbers of the loops aside."""
        return (self._mark, *self.stages)

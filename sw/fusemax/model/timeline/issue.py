"""Issue: tiles enter every iteration of the program and wait at two words of it, their first QK and their first SLNV."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ...program import Program
from ...spec import MICROWORD, Config, Op
from .bus import LONG_AGO, UNKNOWN
from .latencies import Latencies
from .load import LoadWalker
from .store import Store
from .walk import TILE, Walk

__all__ = ["Issue", "Tile", "Waits"]

#: Jobs that wait in the issue walker's queue.
QUEUE_DEPTH = 5


@dataclass(frozen=True, slots=True)
class Tile:
    """Of a key tile against a query tile: whether it is the query tile's first or last, the key tile's first or last."""

    first: bool
    last: bool
    new_keys: bool
    free_keys: bool


class Mark(enum.Enum):
    """Words of a program at which more happens than that a cycle passes."""

    FIRST_QK = enum.auto()
    LAST_QK = enum.auto()
    FIRST_SLNV = enum.auto()
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
        kinds = {Op.QK: (Mark.FIRST_QK, Mark.LAST_QK), Op.SLNV: (Mark.FIRST_SLNV, Mark.LAST_SLNV)}.get(Op(word["op"]))
        if kinds is not None:
            found += [(slot, kind, word["stage"]) for kind, flag in zip(kinds, ("first", "last"), strict=True) if word[flag]]
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
        Called when a key tile's first tile has been taken, before the walker moves on.
    """

    def __init__(
        self, config: Config, query: LoadWalker, key: LoadWalker, value: LoadWalker, store: Store, observe: Callable[[], None]
    ) -> None:
        super().__init__(QUEUE_DEPTH, Latencies(config))
        self._query, self._key, self._value, self._store = query, key, value, store
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
        self._query_tile = 0
        self._freed: deque[int] = deque()
        self._output_slots = 0

    def start(self) -> None:
        super().start()
        # Results of another size come with another program, when all buffers are free.
        if self.job is not None and self.job["output_slots"] != self._output_slots:
            self._output_slots = self.job["output_slots"]
            self._freed = deque([LONG_AGO] * self._output_slots, self._output_slots)

    def load_program(self, cycle: int, program: Program) -> None:
        """In that cycle the store gives its last word of the program before; :attr:`words_from` is known later."""
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
        query_tiles, at = self.group_tiles, self.at
        new, free = self._query_tile == 0, self._query_tile == query_tiles - 1
        self.stages.insert(0, Tile(at[TILE] == 0, at[TILE] == self.job["key_tiles"] - 1, new, free))
        if new:
            self._observe()
        self._query_tile += 1
        if free:
            self._query_tile = 0
            self.step(taken, self.job["key_tiles"])

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
        elif mark is Mark.LAST_QK:
            if tile.last:
                self._query.release(cycle)
            if tile.free_keys:
                self._key.release(cycle)
        elif mark is Mark.FIRST_SLNV:
            if tile.new_keys and not self._value.loaded:
                return False
            if tile.new_keys and (there := self._value.loaded.popleft()) > cycle:
                waits.stall_v += there - cycle
                cycle = there
            if tile.last and (there := self._freed[0]) > cycle:
                waits.stall_output += there - cycle
                cycle = there
        else:
            if tile.free_keys:
                self._value.release(cycle)
            if tile.last:
                self._freed.append(self._store.write(cycle))
            self.stages[stage] = None
        self.base = cycle - slot
        return True

    def state(self) -> tuple[int, ...]:
        """Every cycle that what comes next may depend on."""
        return (self.base, *self._freed)

    def shape(self) -> tuple[object, ...]:
        """What else it depends on, the numbers of the loops aside."""
        return (self._mark, *self.stages)

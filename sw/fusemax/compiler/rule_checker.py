"""Whether the machine can run a program: a second opinion that shares no code with the scheduler.

The words are first read one by one (ports, buses, flags, everything once), then issued for several tiles, with and
without random stalls between them, into a model of the registers, rings and memories of one column. Each of these
holds the tile that wrote it, so reading too early, too late, or twice is seen where it happens.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RuleError
from ..spec import MICROWORD, STAGES, Config, Op, Timing
from .microwords import OPS

__all__ = ["RULES", "check"]

#: Rules by name: what is asked of a program.
RULES: dict[str, str] = {
    "length": "A program has 1 to program_words microwords.",
    "word": "Operations are known, reserved bits are zero.",
    "main operation": "QK, EXP, SUM and SLNV are there once per index and tile.",
    "flags": "first is on the first QK and SLNV of a tile, last on the last ones, both nowhere else.",
    "partial bus": "MAX, SUM and SLNV share the bus down the columns.",
    "north bus": "QK, EXP and MASK share the bus from the north.",
    "maximum": "MAX is once, in slot 0, beside the first QK or alone.",
    "mask": "MASK is once, in SUM's slot: behind MAX of the tile before, before its own tile's MAX.",
    "accumulator": "QKs of a tile come in order of their index, before MAX, with no other tile's in between.",
    "value order": "SLNVs come in order of their index, a tile's before the next one's.",
    "reference": "EXP comes after MAX's result is in the ring beside the north feeder, and before the entry is written again.",
    "hold": "EXP, SUM and SLNV find their tile's score or weight in its hold register.",
    "hold lifetime": "MAX overwrites a hold register after its last reader only.",
    "rescale": "SUM and SLNV find their tile's rescale distance in the lane's ring.",
    "reciprocal": "SLNV finds its tile's reciprocal in the lane's ring, so SUM comes before it.",
    "recurrence": "A lane's reference and state are written before they are read for the next tile.",
}


@dataclass(frozen=True)
class Issue:
    """A word's operation as issued: cycle, number among all words, slot, tile, index."""

    cycle: int
    number: int
    slot: int
    tile: int
    index: int
    name: str

    def __str__(self) -> str:
        return (
            f"{self.name} {self.index} of tile {self.tile}"
            if self.name in ("QK", "SLNV")
            else f"{self.name} of tile {self.tile}"
        )


#: Cycle, phase, and what happens then.
Event = tuple[int, int, Callable[[Issue], None]]


def check(microwords: Sequence[int], config: Config, e: int, f: int, *, timing: Timing | None = None, seed: int = 0) -> None:
    """Check that the machine can run a program.

    Parameters
    ----------
    microwords
        Words of one initiation interval, 32 bits each.
    config
        The machine.
    e, f
        Head dim of queries and keys, and of values.
    timing
        Latencies in cycles; the machine's if not given.
    seed
        Fixes the random stalls.

    Raises
    ------
    RuleError
        If the program breaks one of :data:`RULES`; the message names the rule, the slot, and the distance if it is one
        of time.
    """
    words = _read(microwords, config)
    _check_words(words, e, f)
    tiles = 2 * config.holds + 3
    for stalls in (random.Random(seed) if stalled else None for stalled in (False, True)):
        _Column(timing or Timing(config), e, f, len(words)).run(_issue(words, tiles, stalls))


def _read(microwords: Sequence[int], config: Config) -> list[dict[str, int]]:
    if not 1 <= len(microwords) <= config.program_words:
        raise RuleError("length", 0, f"a program must have 1 to {config.program_words} microwords, not {len(microwords)}")
    words = [MICROWORD.unpack(word) for word in microwords]
    for slot, (word, fields) in enumerate(zip(microwords, words, strict=True)):
        others = fields["src"] or fields["dst"] or fields["constant"]
        if fields["op"] not in OPS or others or MICROWORD.pack(fields) != word:
            raise RuleError("word", slot, f"{word:#010x} must be a microword")
    return words


def _check_words(words: list[dict[str, int]], e: int, f: int) -> None:
    """What can be seen in the words themselves."""
    wanted = {Op.QK: range(e), Op.EXP: range(1), Op.SUM: range(f, f + 1), Op.SLNV: range(f)}
    seen: Counter[tuple[int, int]] = Counter()
    for slot, word in enumerate(words):
        op, index = Op(word["op"]), word["index"]
        if op is not Op.NOP:
            if index not in wanted[op]:
                raise RuleError("main operation", slot, f"the index of {op.name} must be in {wanted[op]}, not {index}")
            seen[op, index] += 1
            if seen[op, index] > 1:
                raise RuleError("main operation", slot, f"{op.name} {index} must be issued once per tile, not again")
        ends = wanted[op] if op in (Op.QK, Op.SLNV) else None
        for flag, at in (("first", 0), ("last", -1)):
            if word[flag] != (ends is not None and index == ends[at]):
                raise RuleError("flags", slot, f"{flag} must be {1 - word[flag]} for {op.name} {index}, not {word[flag]}")
        if word["max"] and op in (Op.SUM, Op.SLNV):
            raise RuleError("partial bus", slot, f"MAX must not be beside {op.name}")
        if word["mask"] and op in (Op.QK, Op.EXP):
            raise RuleError("north bus", slot, f"MASK must not be beside {op.name}")
        if word["max"] != (slot == 0) or (word["max"] and op is not Op.NOP and not (op is Op.QK and word["first"])):
            raise RuleError("maximum", slot, "MAX must be in slot 0, beside the first QK or alone, and nowhere else")
        if word["mask"] != (op is Op.SUM):
            raise RuleError("mask", slot, "MASK must be in SUM's slot and nowhere else")
    for op, indices in wanted.items():
        for index in indices:
            if not seen[op, index]:
                raise RuleError("main operation", 0, f"{op.name} {index} must be issued once per tile, but is not there")


def _issue(words: list[dict[str, int]], tiles: int, stalls: random.Random | None) -> Iterator[list[Issue]]:
    """Operations that each issued word executes, with as many iterations as ``tiles`` tiles need."""
    cycle = number = 0
    for iteration in range(tiles + STAGES - 1):
        for slot, word in enumerate(words):
            operations = []
            for name, stage, present in (
                ("MAX", 1, word["max"]),
                (Op(word["op"]).name, word["stage"], word["op"] != Op.NOP),
            ):
                if present and 0 <= iteration - stage < tiles:
                    operations.append(Issue(cycle, number, slot, iteration - stage, word["index"], name))
            yield operations
            number += 1
            cycle += 1
            if stalls is not None and stalls.random() < 0.2:
                cycle += stalls.choice((1, 2, 5, 40))


class _Column:
    """Everything that column 0 keeps. PE rows differ by a shift in time only, so row 0 stands for all.

    Cycles are those of docs/explanation/microarchitecture.md, section 3. Within a cycle, events run in the order of
    their phase: reads and the comparator first, writes last.
    """

    def __init__(self, timing: Timing, e: int, f: int, ii: int) -> None:
        self.timing = timing
        self.config = config = timing.config
        self.e, self.f, self.ii = e, f, ii
        self.accumulator: Issue | None = None
        self.hold: list[Issue | None] = [None] * config.holds
        self.reference_ring: list[Issue | None] = [None] * config.holds
        self.rescale_ring: list[Issue | None] = [None] * config.holds
        self.reciprocal_ring: list[Issue | None] = [None] * config.holds
        self.reference_free = 0
        self.state_free: dict[int, int] = {}
        self.weight_reads: Counter[int] = Counter()
        self.last_value: Issue | None = None
        self.latest_maximum: dict[int, Issue] = {}

    def run(self, words: Iterator[list[Issue]]) -> None:
        events: list[tuple[int, int, int, Callable[[Issue], None], Issue]] = []
        for operations in words:
            for operation in operations:
                for cycle, phase, action in getattr(self, operation.name.lower())(operation):
                    events.append((cycle, phase, len(events), action, operation))
        events.sort(key=lambda event: event[:3])
        for *_, action, operation in events:
            action(operation)

    # -- operations: when they do what -----------------------------------------------------------------------

    def at_pe(self, o: Issue) -> tuple[int, int]:
        """First and last stage of PE (0, 0)."""
        first = o.cycle + self.timing.feeder
        return first, first + self.config.pe_latency - 1

    def at_lane(self, o: Issue) -> int:
        """The partial value is at lane 0's input."""
        return o.cycle + self.timing.feeder + self.config.rows + self.config.pe_latency - 1

    def qk(self, o: Issue) -> Iterator[Event]:
        yield self.at_pe(o)[1], 1, self.accumulate

    def max(self, o: Issue) -> Iterator[Event]:
        lane = self.at_lane(o)
        yield self.at_pe(o)[1], 0, self.compare
        yield lane, 0, self.update_reference
        yield lane + self.timing.reference - 1, 2, self.write_rescale
        yield lane + self.timing.reference + self.timing.feedback - 1, 2, self.write_reference

    def exp(self, o: Issue) -> Iterator[Event]:
        first, last = self.at_pe(o)
        yield first - 1, 0, self.read_reference
        yield first, 0, self.read_score
        yield last, 2, self.write_weight

    def sum(self, o: Issue) -> Iterator[Event]:
        yield self.at_pe(o)[0], 0, self.read_weight
        yield self.at_lane(o), 0, self.update_state
        yield self.at_lane(o) + self.timing.normalise + self.timing.adder + self.timing.reciprocal, 2, self.write_reciprocal

    def slnv(self, o: Issue) -> Iterator[Event]:
        yield self.at_pe(o)[0], 0, self.read_weight
        yield self.at_lane(o), 0, self.update_state
        yield self.at_lane(o) + self.timing.normalise + self.timing.adder + self.timing.reciprocal, 0, self.read_reciprocal

    # -- what happens ----------------------------------------------------------------------------------------

    def accumulate(self, o: Issue) -> None:
        found, wanted = self.accumulator, None if o.index == 0 else (o.tile, o.index - 1)
        if wanted is not None and (found is None or (found.tile, found.index) != wanted):
            raise RuleError("accumulator", o.slot, f"{o} must follow QK {wanted[1]} of tile {o.tile}, but follows {found}")
        self.accumulator = o

    def compare(self, o: Issue) -> None:
        found = self.accumulator
        if found is None or (found.tile, found.index) != (o.tile, self.e - 1):
            raise RuleError("accumulator", o.slot, f"{o} must find QK {self.e - 1} of tile {o.tile}, but finds {found}")
        old = self.hold[o.tile % self.config.holds]
        if old is not None and self.weight_reads[old.tile] != self.f + 2:
            raise RuleError(
                "hold lifetime",
                o.slot,
                f"{o} must come at least 1 slot after the last reader of {old} in the same hold register, but "
                f"{self.f + 2 - self.weight_reads[old.tile]} are still to come",
            )
        self.hold[o.tile % self.config.holds] = o
        self.latest_maximum[o.tile] = o

    def update_reference(self, o: Issue) -> None:
        cycle = self.at_lane(o)
        if cycle < self.reference_free:
            raise self.recurrence(o, self.timing.reference + 1)
        self.reference_free = cycle + self.timing.reference + 1

    def update_state(self, o: Issue) -> None:
        cycle = self.at_lane(o)
        rescale = self.rescale_ring[o.tile % self.config.holds]
        if rescale is None or rescale.tile != o.tile:
            raise RuleError(
                "rescale", o.slot, f"{o} must find the rescale distance of tile {o.tile}, but finds that of {rescale}"
            )
        if cycle < self.state_free.get(o.index, 0):
            raise self.recurrence(o, self.timing.state_read + self.timing.adder + 1)
        self.state_free[o.index] = cycle + self.timing.state_read + self.timing.adder + 1

    def recurrence(self, o: Issue, needed: int) -> RuleError:
        return RuleError(
            "recurrence", o.slot, f"{o} must come {needed} slots after that of the tile before, but comes {self.ii} after"
        )

    def write_rescale(self, o: Issue) -> None:
        self.rescale_ring[o.tile % self.config.holds] = o

    def write_reference(self, o: Issue) -> None:
        self.reference_ring[o.tile % self.config.holds] = o

    def write_reciprocal(self, o: Issue) -> None:
        self.reciprocal_ring[o.tile % self.config.holds] = o

    def read_reciprocal(self, o: Issue) -> None:
        found = self.reciprocal_ring[o.tile % self.config.holds]
        if found is None or found.tile != o.tile:
            raise RuleError(
                "reciprocal", o.slot, f"{o} must come at least 1 slot after SUM of tile {o.tile}, but finds {found}"
            )

    def read_reference(self, o: Issue) -> None:
        found = self.reference_ring[o.tile % self.config.holds]
        if found is None or found.tile != o.tile:
            maximum = self.latest_maximum.get(o.tile)
            distance = f"comes {o.number - maximum.number} after" if maximum else "comes before it"
            needed = self.config.rows + self.config.pe_latency + self.timing.reference + self.timing.feedback
            raise RuleError("reference", o.slot, f"{o} must come at least {needed} slots after MAX, but {distance}")

    def read_score(self, o: Issue) -> None:
        self.find_in_hold(o, "MAX")

    def write_weight(self, o: Issue) -> None:
        self.find_in_hold(o, "MAX")
        self.hold[o.tile % self.config.holds] = o
        self.weight_reads[o.tile] += 1

    def read_weight(self, o: Issue) -> None:
        found = self.hold[o.tile % self.config.holds]
        if found is not None and found.name == "MAX" and found.tile == o.tile:
            raise RuleError(
                "hold", o.slot, f"{o} must come at least {self.config.pe_latency} slots after EXP, but finds no weight yet"
            )
        self.find_in_hold(o, "EXP")
        self.weight_reads[o.tile] += 1
        if o.name == "SUM":
            return
        before = self.last_value
        expected = (o.tile, o.index - 1) if o.index else (o.tile - 1, self.f - 1)
        if (before.tile, before.index) != expected if before else (o.tile, o.index) != (0, 0):
            raise RuleError(
                "value order", o.slot, f"{o} must follow SLNV {expected[1]} of tile {expected[0]}, but follows {before}"
            )
        self.last_value = o

    def find_in_hold(self, o: Issue, writer: str) -> None:
        found = self.hold[o.tile % self.config.holds]
        if found is None or (found.name, found.tile) != (writer, o.tile):
            raise RuleError("hold", o.slot, f"{o} must find {writer} of tile {o.tile} in its hold register, but finds {found}")

"""Whether the machine can run a program: a second opinion that knows no attention and shares no code with the scheduler.

What a program means is what its microwords give when those of a tile run one after another, each complete before the next
begins: registers hold *symbols*, and an operation's result is the symbol of the operation on those that it read. The machine
overlaps them. So the words are issued for several tiles, with and without random stalls, into a model of the registers, rings
and memories of one PE and its lane, cycle by cycle; wherever something is read, it must be the same symbol. Ports of buses and
the order in which buffers are walked through are looked at word by word before.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ..errors import RuleError
from ..spec import MICROWORD, MOST_SIG, STAGES, Config, Op, Port, Timing

__all__ = ["RULES", "check", "same_meaning"]

#: Rules by name: what is asked of a program.
RULES: dict[str, str] = {
    "length": "A program has 1 to program_words microwords.",
    "word": "Operations are known, significands are those of bfloat16, and fields that an operation does not use are zero.",
    "option": "The machine was made with the operations and registers that the program uses.",
    "walk": "Head dim indices of QK, of SLNV (with ENT) and of SUM are there once a tile, QKs and numerators in their order.",
    "flags": "first is on the first QK, BIAS, SLNV and ENT of a tile, last on the last QK, BIAS and SLNV.",
    "bias": "If there is BIAS, it is there for every row, behind the tile's QKs and before whatever uses the score.",
    "partial bus": "MAX, SUM, SLNV and ENT share the bus down the columns.",
    "north bus": "QK, BIAS, EXP and MASK share the bus from the north.",
    "write port": "MAX, EXP, LIN and SET share the write port of the hold registers.",
    "move": "A stage 1 tile's MAX is in slot 0, beside the first QK or alone.",
    "mask": "MASK is once a tile, in SUM's slot or one without an operation; MAX and SET find their own tile's mask bit.",
    "kind": "EXP and LIN find a score in a hold register, all others a weight.",
    "undefined": "No operation reads what its tile has not written.",
    "accumulator": "Whoever reads the accumulator finds its own tile's score, as far as it is then.",
    "hold": "Whoever reads a hold register finds what its own tile wrote there last.",
    "spare hold": "The same of the register that all tiles share.",
    "reference": "EXP finds its tile's reference in the ring beside the north feeder.",
    "lane ring": "Sums find their tile's rescale distance, and numerators the reciprocal, in the rings of the lane.",
    "recurrence": "A lane's reference and states are written before they are read for the next tile.",
    "row": "SUM is issued before its tile's numerators, since a row of the output begins with its state.",
    "value order": "Numerators of a tile are issued before those of the next tile.",
}

#: A value: number of the operation and its operands in the table of symbols.
Symbol = int
PARTIAL = (Op.SUM, Op.SLNV, Op.ENT)
NUMERATORS = (Op.SLNV, Op.ENT)
HOLD_WRITERS = (Op.EXP, Op.LIN, Op.SET)
NORTH = (Op.QK, Op.BIAS, Op.EXP)
#: Operations that use the fields; the others leave them zero.
USES: dict[str, tuple[Op, ...]] = {
    "index": (Op.QK, Op.BIAS, Op.SUM, Op.SLNV, Op.ENT, Op.SET, Op.ADD),
    "first": (Op.QK, Op.BIAS, Op.SLNV, Op.ENT, Op.EXP, Op.LIN, Op.ADD),
    "last": (Op.QK, Op.BIAS, Op.SLNV),
    "src": (Op.QK, Op.EXP, Op.LIN, Op.SET, Op.ADD, Op.ENT, Op.SUM, Op.SLNV),
    "dst": HOLD_WRITERS,
    "constant": (Op.EXP, Op.SET, Op.ADD),
}
#: Options of the configuration that operations need.
OPTIONS = {Op.LIN: "linear", Op.SET: "functions", Op.ADD: "functions", Op.ENT: "entropy"}


@dataclass(frozen=True)
class Issue:
    """A word's operation as issued: cycle, slot, place among a tile's operations, tile, and the word's fields."""

    cycle: int
    slot: int
    place: int
    tile: int
    name: str
    index: int
    word: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{self.name} {self.index} of tile {self.tile}"
            if self.name in ("QK", "SLNV")
            else f"{self.name} of tile {self.tile}"
        )


#: Cycle, phase within it, and what happens then.
Event = tuple[int, int, Callable[[Issue], None]]


def check(
    microwords: Sequence[int],
    config: Config,
    e: int,
    f: int,
    *,
    fixed_reference: bool = False,
    spare_hold: bool = False,
    raw: bool = False,
    timing: Timing | None = None,
    seed: int = 0,
) -> None:
    """Check that the machine can run a program.

    Parameters
    ----------
    microwords
        Words of one initiation interval, 32 bits each.
    config
        The machine.
    e, f
        Head dim of queries and keys, and of values.
    fixed_reference, spare_hold
        As in the job's descriptor.
    raw
        Its jobs do not divide (``raw_out``), so that numerators need no reciprocal.
    timing
        Latencies in cycles; the machine's if not given.
    seed
        Fixes the random stalls.

    Raises
    ------
    RuleError
        If the program breaks one of :data:`RULES`; the message names the rule and the slot.
    """
    words = _read(microwords, config)
    _check_words(words, config, e, f, fixed_reference, spare_hold)
    timing = timing or Timing(config)
    tiles = 2 * config.holds + 3
    symbols = _Symbols()
    meaning = _Column(timing, fixed_reference, spare_hold, symbols, raw=raw)
    meaning.run(_one_after_another(words, tiles, timing))
    for stalls in (None, random.Random(seed)):
        overlapped = _Column(timing, fixed_reference, spare_hold, symbols, meaning, raw=raw)
        overlapped.run(_overlapped(words, tiles, stalls))
    _check_row(words)


def same_meaning(
    one: Sequence[int], other: Sequence[int], config: Config, *, fixed_reference: bool = False, spare_hold: bool = False
) -> bool:
    """Compare what two programs mean, whenever they do it.

    Parameters
    ----------
    one, other
        Microwords; their initiation intervals may differ, and so may their length from what the machine holds.
    config
        The machine.
    fixed_reference, spare_hold
        As in the job's descriptor.

    Returns
    -------
    bool
        Whether every state is the same expression after some tiles.

    Raises
    ------
    RuleError
        If one of them reads what its tile has not written.
    """
    timing, symbols = Timing(config), _Symbols()
    states = []
    for microwords in (one, other):
        column = _Column(timing, fixed_reference, spare_hold, symbols, raw=True)
        column.run(_one_after_another([MICROWORD.unpack(word) for word in microwords], 2, timing))
        states.append(
            {register: symbol for register, symbol in column.registers.items() if register[0] in ("state", "maximum")}
        )
    return states[0] == states[1]


# -- words ---------------------------------------------------------------------------------------------------------


def _read(microwords: Sequence[int], config: Config) -> list[dict[str, int]]:
    if not 1 <= len(microwords) <= config.program_words:
        raise RuleError("length", 0, f"a program must have 1 to {config.program_words} microwords, not {len(microwords)}")
    words = [MICROWORD.unpack(word) for word in microwords]
    for slot, (word, fields) in enumerate(zip(microwords, words, strict=True)):
        if fields["op"] not in tuple(Op):
            raise RuleError("word", slot, f"{word:#010x} must be a microword")
    return words


def _check_words(words: list[dict[str, int]], config: Config, e: int, f: int, fixed_reference: bool, spare_hold: bool) -> None:
    """What can be seen in the words themselves."""
    for flag, option in ((fixed_reference, "linear"), (spare_hold, "functions")):
        if flag and not getattr(config, option):
            raise RuleError("option", 0, f"the program needs a machine with {option}")
    masks = 0
    for slot, word in enumerate(words):
        op = Op(word["op"])
        _check_fields(slot, word, fixed_reference, spare_hold)
        if op in OPTIONS and not getattr(config, OPTIONS[op]):
            raise RuleError("option", slot, f"{op.name} needs a machine with {OPTIONS[op]}")
        if op is Op.QK and word["src"] and not config.functions:
            raise RuleError("option", slot, "QK with a key of 0 needs a machine with functions")
        if op is Op.EXP and word["first"] and not config.functions:
            raise RuleError("option", slot, "EXP with first needs a machine with functions")
        if word["max"]:
            if op in PARTIAL:
                raise RuleError("partial bus", slot, f"MAX must not be beside {op.name}")
            if op in HOLD_WRITERS:
                raise RuleError("write port", slot, f"MAX must not be beside {op.name}")
            if not word["dst"] and (slot or (op is not Op.NOP and not (op is Op.QK and word["first"]))):
                raise RuleError("move", slot, "MAX of the stage 1 tile must be in slot 0, beside the first QK or alone")
        if word["mask"]:
            masks += 1
            if op in NORTH:
                raise RuleError("north bus", slot, f"MASK must not be beside {op.name}")
            if op not in (Op.SUM, Op.NOP):
                raise RuleError("mask", slot, "MASK must be in SUM's slot or one without an operation")
    if masks != 1:
        raise RuleError("mask", 0, f"MASK must be there once, not {masks} times")
    _check_walks(words, e, f, config.rows)
    _check_bias(words)


def _check_bias(words: list[dict[str, int]]) -> None:
    """Biases are added to a score that is complete otherwise."""
    operations = list(_operations(words))
    biases = [(offset, slot) for offset, slot, name, _ in operations if name == "BIAS"]
    for offset, slot, name, word in operations:
        if name == "QK" and not word["src"] and any(bias < offset for bias, _ in biases):
            raise RuleError("bias", slot, "QK must come before its tile's BIASes, but comes behind one")
        if name in ("ADD", "MAX") and any(bias > offset for bias, _ in biases):
            raise RuleError("bias", slot, f"{name} must come behind its tile's BIASes, but comes before one")


def _check_fields(slot: int, word: dict[str, int], fixed_reference: bool, spare_hold: bool) -> None:
    op = Op(word["op"])
    for field, users in USES.items():
        used = op in users
        if field == "constant" and op is Op.EXP:
            used = fixed_reference
        if field == "dst" and word["max"]:
            used = True
        if word[field] and not used:
            raise RuleError("word", slot, f"{field} must be 0 in a word of {op.name}, not {word[field]}")
    # Two's complement of the field's 10 bits.
    if op in (Op.SET, Op.ADD) and not (word["index"] <= MOST_SIG or word["index"] >= 1024 - MOST_SIG):
        raise RuleError("word", slot, f"the index of {op.name} must be a significand, not {word['index']}")
    clears = op is Op.QK and word["src"]
    if clears and not (word["first"] and not word["last"] and not word["index"]):
        raise RuleError("word", slot, "a QK with a key of 0 must have first, and neither last nor an index")
    if not spare_hold and ((word["src"] and not clears) or (word["dst"] and not word["max"])):
        raise RuleError("option", slot, f"{op.name} must leave the spare hold alone without the flag spare_hold")


def _check_walks(words: list[dict[str, int]], e: int, f: int, rows: int) -> None:
    """Every head dim index once a tile; which word is the first and the last of its kind."""
    walks: tuple[tuple[tuple[Op, ...], list[int]], ...] = (
        ((Op.QK,), list(range(e))),
        *((((Op.BIAS,), list(range(rows))),) if any(word["op"] == Op.BIAS for word in words) else ()),
        (NUMERATORS, list(range(f))),
        ((Op.SUM,), [f]),
    )
    for ops, wanted in walks:
        name = "numerator" if ops is NUMERATORS else ops[0].name
        seen: Counter[int] = Counter()
        latest = -1
        # Slices come first, but values are waited for at their own first one.
        firsts = {
            op: min((word["index"] for word in words if word["op"] == op and not (op is Op.QK and word["src"])), default=0)
            for op in ops
        }
        for slot, word in sorted(enumerate(words), key=lambda entry: entry[1]["stage"] * len(words) + entry[0]):
            op, index = Op(word["op"]), word["index"]
            if op not in ops or (op is Op.QK and word["src"]):
                continue
            if index not in wanted:
                raise RuleError(
                    "walk", slot, f"the index of {op.name} must be in {range(wanted[0], wanted[-1] + 1)}, not {index}"
                )
            seen[index] += 1
            if seen[index] > 1:
                raise RuleError("walk", slot, f"{op.name} {index} must be issued once per tile, not again")
            if index < latest:
                raise RuleError("walk", slot, f"{op.name} {index} must come before {name} {latest}, but comes behind it")
            latest = index
            ends = {"first": firsts[op], "last": -1 if op is Op.ENT else wanted[-1]}
            for flag, end in ends.items():
                if op is not Op.SUM and word[flag] != (index == end):
                    raise RuleError("flags", slot, f"{flag} must be {1 - word[flag]} for {op.name} {index}, not {word[flag]}")
        for index in wanted:
            if not seen[index]:
                raise RuleError("walk", 0, f"{name} {index} must be issued once per tile, but is not there")


def _check_row(words: list[dict[str, int]]) -> None:
    """A row of the output goes to its bus words as it comes."""
    offsets = [(word["stage"] * len(words) + slot, slot, Op(word["op"])) for slot, word in enumerate(words)]
    total = next(offset for offset, _, op in offsets if op is Op.SUM)
    offset, slot, op = min(entry for entry in offsets if entry[2] in NUMERATORS)
    if offset < total:
        raise RuleError("row", slot, f"{op.name} must come behind its tile's SUM, but comes {total - offset} slots before it")


# -- issue ---------------------------------------------------------------------------------------------------------


def _operations(words: list[dict[str, int]]) -> Iterator[tuple[int, int, str, dict[str, int]]]:
    """Operations of a tile: offset from its first word, slot, name, fields; what rides comes first."""
    ii = len(words)
    for slot, word in enumerate(words):
        if word["mask"]:
            yield slot, slot, "MASK", word
        if word["max"]:
            yield (word["stage"] * ii + slot if word["dst"] else ii + slot), slot, "MAX", word
        if word["op"] != Op.NOP:
            yield word["stage"] * ii + slot, slot, Op(word["op"]).name, word


def _in_order(words: list[dict[str, int]]) -> list[tuple[int, int, str, dict[str, int]]]:
    return sorted(_operations(words), key=lambda entry: (entry[0], entry[2] not in ("MASK", "MAX")))


def _issue(cycle: int, place: int, tile: int, operation: tuple[int, int, str, dict[str, int]]) -> Issue:
    _, slot, name, word = operation
    return Issue(cycle, slot, place, tile, name, 0 if name in ("MASK", "MAX") else word["index"], word)


def _one_after_another(words: list[dict[str, int]], tiles: int, timing: Timing) -> Iterator[Issue]:
    """Every operation long after the one before it."""
    order = _in_order(words)
    apart = timing.corner_to_output + timing.max_to_exp + 1
    for tile in range(tiles):
        for place, operation in enumerate(order):
            yield _issue((tile * len(order) + place) * apart, place, tile, operation)


def _overlapped(words: list[dict[str, int]], tiles: int, stalls: random.Random | None) -> Iterator[Issue]:
    """What each word does in every iteration that ``tiles`` tiles need."""
    ii = len(words)
    places = {(slot, name): place for place, (_, slot, name, _) in enumerate(_in_order(words))}
    by_slot: dict[int, list[tuple[int, int, str, dict[str, int]]]] = {}
    for operation in _in_order(words):
        by_slot.setdefault(operation[1], []).append(operation)
    cycle = 0
    for iteration in range(tiles + STAGES):
        for slot in range(ii):
            for operation in by_slot.get(slot, ()):
                tile = iteration - operation[0] // ii
                if 0 <= tile < tiles:
                    yield _issue(cycle, places[slot, operation[2]], tile, operation)
            cycle += 1
            if stalls is not None and stalls.random() < 0.2:
                cycle += stalls.choice((1, 2, 5, 40))


# -- symbols -------------------------------------------------------------------------------------------------------


class _Symbols:
    """Expressions, each with a number: equal numbers are equal expressions."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[object, ...], Symbol] = {}
        self._names: list[str] = []

    def __call__(self, name: str, *operands: object) -> Symbol:
        """The symbol of an operation on operands."""
        key = (name, *operands)
        if key not in self._numbers:
            self._numbers[key] = len(self._names)
            self._names.append(name)
        return self._numbers[key]

    def describe(self, symbol: Symbol | None) -> str:
        """What gave it."""
        return "nothing" if symbol is None else self._names[symbol]


class _Column:
    """Everything that PE (0, 0) and lane 0 keep. PE rows differ by a shift in time only, so row 0 stands for all.

    Cycles are those of docs/explanation/microarchitecture.md, section 3. Within a cycle, whoever reads comes before whoever
    writes. With ``meaning``, everything that is read must be what was read there.

    Members
    -------
    found
        Symbol by tile, place of the operation among the tile's, and what was read.
    """

    def __init__(
        self,
        timing: Timing,
        fixed_reference: bool,
        spare_hold: bool,
        symbols: _Symbols,
        meaning: _Column | None = None,
        *,
        raw: bool,
    ) -> None:
        self.timing, self.fixed_reference, self.symbols, self.meaning = timing, fixed_reference, symbols, meaning
        self.raw = raw
        self.holds = timing.config.holds
        self.rotating = self.holds - spare_hold
        self.registers: dict[tuple[str, int], Symbol] = {}
        self.found: dict[tuple[int, int, str], Symbol | None] = {}
        self.kinds: dict[tuple[str, int], str] = {}
        self.walked: tuple[int, int] | None = None

    def run(self, issued: Iterator[Issue]) -> None:
        events: list[tuple[int, int, int, Callable[[Issue], None], Issue]] = []
        for operation in issued:
            for cycle, phase, action in self.events(operation):
                events.append((cycle, phase, len(events), action, operation))
        events.sort(key=lambda event: event[:3])
        tile = 0
        for *_, action, operation in events:
            if self.meaning is None and operation.tile != tile:
                tile = operation.tile
                self.forget()
            action(operation)

    def forget(self) -> None:
        """Only lanes keep something from tile to tile: an operation that reads what another tile has left means nothing."""
        for register in [register for register in self.registers if register[0] not in ("state", "maximum")]:
            del self.registers[register]

    # -- when ------------------------------------------------------------------------------------------------------

    def events(self, o: Issue) -> Iterator[Event]:
        """When an operation reads and writes, and what."""
        timing, name = self.timing, o.name
        first = o.cycle + timing.feeder
        last = first + timing.config.pe_latency - 1
        lane = last + timing.config.rows
        if name in ("EXP", "LIN", "SET", "ADD", "SUM", "SLNV", "ENT"):
            yield first, READ, self.read_hold
        if name == "EXP" and not self.fixed_reference:
            yield first - 1, READ, self.read_reference
        if name == "ADD" and o.word["first"]:
            yield first + timing.read_stage(Port.SIGN), READ, self.read_sign
        if name == "ENT":
            yield first + timing.read_stage(Port.SLICE), READ, self.read_score
        if name in ("QK", "BIAS", "ADD", "MAX") and not (name == "QK" and o.word["first"]):
            yield last, READ, self.read_score
        if name in ("MAX", "SET"):
            yield first + timing.read_stage(Port.VISIBLE), READ, self.read_visible
        if name in ("QK", "BIAS", "ADD"):
            yield last, WRITE, self.write_score
        if name == "MASK":
            yield last, WRITE, self.write_visible
        if name in ("EXP", "LIN", "SET", "MAX"):
            yield last, WRITE, self.write_hold
        if name == "MAX" and not self.fixed_reference:
            yield lane, READ, self.read_maximum
            yield lane + timing.reference - 1, WRITE, self.write_rescale
            yield lane + timing.reference, WRITE, self.write_maximum
            yield lane + timing.reference + timing.feedback - 1, WRITE, self.write_reference
        if name in ("SUM", "SLNV", "ENT"):
            yield lane, READ, self.read_state
            yield lane + timing.state_read + timing.adder, WRITE, self.write_state
            done = lane + timing.normalise + timing.adder + timing.reciprocal
            if name == "SUM":
                yield done, WRITE, self.write_reciprocal
            else:
                yield first, READ, self.walk
                if not self.raw:
                    yield done, READ, self.read_reciprocal

    # -- what: reading ---------------------------------------------------------------------------------------------

    def read(self, o: Issue, rule: str, register: tuple[str, int], what: str) -> None:
        """Find a register's symbol, and compare it with the meaning's."""
        found = self.registers.get(register)
        self.found[o.tile, o.place, what] = found
        describe = self.symbols.describe
        if self.meaning is None:
            if found is None:
                raise RuleError("undefined", o.slot, f"{o} reads the {what}, which its tile has not written")
            return
        wanted = self.meaning.found[o.tile, o.place, what]
        if found != wanted:
            raise RuleError(
                rule, o.slot, f"{o} must find {describe(wanted)} in the {what}, but finds {self._difference(found, wanted)}"
            )

    def _difference(self, found: Symbol | None, wanted: Symbol | None) -> str:
        one, other = self.symbols.describe(found), self.symbols.describe(wanted)
        return one if one != other else f"another {one}"

    def operand(self, o: Issue, what: str) -> Symbol | None:
        return self.found.get((o.tile, o.place, what))

    def hold(self, o: Issue, field: str) -> tuple[str, int]:
        if o.word[field] and o.name != "MAX":
            return "spare hold", 0
        return "hold", o.tile % self.rotating

    def read_hold(self, o: Issue) -> None:
        if o.name == "ADD" and not o.word["index"]:
            # Times 0: whatever it is.
            return
        register = self.hold(o, "src")
        self.read(o, register[0], register, register[0])
        if self.meaning is None:
            wanted = "score" if o.name in ("EXP", "LIN") else "weight"
            if self.kinds[register] != wanted:
                raise RuleError(
                    "kind", o.slot, f"{o} must find a {wanted} in the {register[0]}, but finds a {self.kinds[register]}"
                )

    def read_score(self, o: Issue) -> None:
        self.read(o, "accumulator", ("accumulator", 0), "accumulator")

    def read_sign(self, o: Issue) -> None:
        self.read(o, "accumulator", ("accumulator", 0), "accumulator's sign")

    def read_visible(self, o: Issue) -> None:
        self.read(o, "mask", ("visible", 0), "mask bit")

    def read_reference(self, o: Issue) -> None:
        self.read(o, "reference", ("reference", o.tile % self.rotating), "reference")

    def read_maximum(self, o: Issue) -> None:
        self.found[o.tile, o.place, "maximum"] = found = self.registers.get(("maximum", 0))
        if self.meaning is not None and found != self.meaning.found[o.tile, o.place, "maximum"]:
            raise RuleError(
                "recurrence",
                o.slot,
                f"{o} must come {self.timing.reference + 1} slots after that of the tile before, but comes too early",
            )

    def read_state(self, o: Issue) -> None:
        if not self.fixed_reference:
            self.read(o, "lane ring", ("rescale", o.tile % self.rotating), "rescale distance")
        self.found[o.tile, o.place, "state"] = found = self.registers.get(("state", o.index))
        if self.meaning is not None and found != self.meaning.found[o.tile, o.place, "state"]:
            raise RuleError(
                "recurrence",
                o.slot,
                f"{o} must come {self.timing.state_read + self.timing.adder + 1} slots after that of the tile before, "
                "but comes too early",
            )

    def read_reciprocal(self, o: Issue) -> None:
        self.read(o, "lane ring", ("reciprocal", o.tile % self.rotating), "reciprocal")

    def walk(self, o: Issue) -> None:
        if self.walked is not None and self.walked >= (o.tile, o.index):
            tile, index = self.walked
            raise RuleError("value order", o.slot, f"{o} must come before numerator {index} of tile {tile}, but follows it")
        self.walked = o.tile, o.index

    # -- what: writing ---------------------------------------------------------------------------------------------

    def write_score(self, o: Issue) -> None:
        self.registers["accumulator", 0] = self.symbols(
            f"{o}",
            o.index,
            o.word["src"],
            o.word["first"],
            o.word["constant"],
            *(self.operand(o, what) for what in ("accumulator", "hold", "spare hold")),
        )

    def write_visible(self, o: Issue) -> None:
        self.registers["visible", 0] = self.symbols(f"{o}")

    def write_hold(self, o: Issue) -> None:
        self.kinds[self.hold(o, "dst")] = "weight" if o.name in ("EXP", "LIN") else "score"
        read = ("accumulator", "mask bit", "hold", "spare hold", "reference")
        fields = (0, 0) if o.name == "MAX" else (o.word["first"], o.word["constant"])
        self.registers[self.hold(o, "dst")] = self.symbols(f"{o}", *fields, o.index, *(self.operand(o, what) for what in read))

    def write_rescale(self, o: Issue) -> None:
        self.registers["rescale", o.tile % self.rotating] = self.new_reference(o)

    def write_maximum(self, o: Issue) -> None:
        self.registers["maximum", 0] = self.new_reference(o)

    def write_reference(self, o: Issue) -> None:
        self.registers["reference", o.tile % self.rotating] = self.new_reference(o)

    def new_reference(self, o: Issue) -> Symbol:
        """The running maximum after a tile; the rescale distance follows from it and the one before."""
        return self.symbols(f"{o}", self.operand(o, "maximum"), self.operand(o, "accumulator"), self.operand(o, "mask bit"))

    def write_state(self, o: Issue) -> None:
        self.registers["state", o.index] = self.new_state(o)

    def write_reciprocal(self, o: Issue) -> None:
        self.registers["reciprocal", o.tile % self.rotating] = self.new_state(o)

    def new_state(self, o: Issue) -> Symbol:
        read = ("state", "rescale distance", "hold", "spare hold", "accumulator")
        return self.symbols(f"{o}", *(self.operand(o, what) for what in read))


#: Phases of a cycle.
READ, WRITE = 0, 1

"""Sequencer: issues one microword a cycle, or withholds it while an operand is not there."""

from typing import Any, NamedTuple

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, ValueLike, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from fusemax.arith.column_sum import ONE_EXPONENT
from fusemax.arith.score_slices import SLICES, slice_exponent
from fusemax.spec import Config, Op, clog2

from ..words import NorthSource, OpCode, lane_word, north_word, west_word
from .issue_walker import tile_layout
from .job import array_flags
from .program_store import microword_layout

__all__ = ["Sequencer", "sequencer_events"]


def sequencer_events() -> data.StructLayout:
    """What happened in a cycle, for the counters."""
    names = (
        "tiles",
        "slots_qk",
        "slots_exp",
        "slots_sum",
        "slots_slnv",
        "slots_max",
        "slots_function",
        "slots_empty",
        "stall_q",
        "stall_k",
        "stall_v",
        "stall_output",
        "idle",
    )
    return data.StructLayout(dict.fromkeys(names, 1))


def function_ops(config: Config) -> tuple[Op, ...]:
    """Operations that the machine has besides those of softmax attention."""
    options = ((config.linear, (Op.LIN,)), (config.functions, (Op.SET, Op.ADD)), (config.entropy, (Op.ENT,)))
    return (Op.BIAS, *(op for has, ops in options if has for op in ops))


class Arrivals(NamedTuple):
    """Count of the query, key or value tiles that have come: one is used now; there is none."""

    taken: Signal
    none: Signal


class Rooms(NamedTuple):
    """Count of the output rows that the buffers hold: another is begun now; there is room for none."""

    taken: Signal
    full: Signal


class Stalls(NamedTuple):
    """What the word waits for."""

    query: Signal
    key: Signal
    value: Signal
    pairs: Signal
    output: Signal


class Slot:
    """What a cycle's word is about: the word, the tile of its stage, and the tiles under way.

    Members
    -------
    stages : list of Signal
        Tiles under way, youngest first: whether there is one, its hold register, the tile.
    running, issue : Signal(1)
        An iteration is under way; the word is issued.
    entry, tile, present
        Entry of ``stages`` that the word's stage selects, the tile in it, and whether there is one.
    moved
        Entry of the tile that a MAX is for: stage 1, or on machines with longer programs perhaps the word's own.
    loads
        The first QK, for which query and key must be there.
    masks
        Rows of the youngest tile are said to be seen or not.
    numerators
        SLNV or ENT, which the lanes do not tell apart.
    active, maximum
        The main operation, the MAX is issued for a tile.
    begins_row
        The word needs room for another output row.
    beat, element
        Bus word of a row, and element of it, that the word's index is.
    """

    def __init__(self, config: Config, word: data.View):
        element_log2 = exact_log2(config.beat_elements)
        hold_shape = unsigned(clog2(config.holds))
        layout = data.StructLayout({"valid": 1, "hold": hold_shape, "tile": tile_layout(config)})
        self.word = word
        self.stages = [Signal(layout, name=f"stage_{index}") for index in range(config.contexts)]
        self.running = Signal()
        self.issue = Signal()
        self.entry = Array(self.stages)[word.stage]
        self.tile, self.present = self.entry.tile, self.entry.valid
        self.moved = self.stages[1]
        if config.functions or config.entropy:
            self.moved = data.View(layout, Mux(word.dst, self.entry.as_value(), self.stages[1].as_value()))
        self.qk, self.slnv, self.sums = word.op == OpCode.QK, word.op == OpCode.SLNV, word.op == OpCode.SUM
        # With a key of 0 it uses neither query nor key.
        self.loads = (self.qk & ~word.src if config.functions else self.qk) & word.first
        self.bias = word.op == Op.BIAS
        self.masks = word.mask & self.stages[0].valid
        self.ent = (word.op == Op.ENT) if config.entropy else Const(0)
        self.numerators, begins = self.slnv, self.slnv & word.first
        if config.entropy:
            # The slices are the first numerators; SLNV goes on behind them.
            self.numerators = self.slnv | self.ent
            begins = word.first & (self.ent | (self.slnv & (word.index == 0)))
        self.active = self.issue & self.present
        self.maximum = self.issue & word.max & self.moved.valid
        self.begins_row = self.present & self.tile.last & Mux(self.tile.state_out, self.sums, begins)
        self.beat, self.element = word.index >> element_log2, word.index[:element_log2]


class Sequencer(wiring.Component):
    """Issue one microword a cycle, unless an operand is not there.

    The program is a kernel-only modulo schedule: tiles enter at stage 0 and move on by one stage per iteration. An operation is
    executed only if its stage holds a tile; a tile's last SLNV takes it out. An iteration without a new tile runs only while
    older tiles are under way; nothing is withheld for a tile that is not known yet. What a tile waits for: Q and K at its first
    QK, mask bits at its MASK, a bias at its first BIAS, V at its first SLNV, room in the output buffers there too or, if its
    state goes out, at SUM.

    The class is long because a method is a part of the issue of a word, and all of them share the word's slot.

    Members
    -------
    words : In(stream.Signature({"word": microword_layout(), "last": 1}))
        The program's loop.
    tiles : In(stream.Signature(tile_layout(config)))
        Tiles in order; one is taken between two iterations.
    query_loaded, key_loaded, value_loaded, mask_loaded, bias_loaded : In(1)
        A tile, or a block of a mask or a bias, has come: high for a cycle.
    output_freed : In(1)
        A query tile's results have left the output buffers: high for a cycle.
    fixed_reference, spare_hold, values_in_keys : In(1)
        As in the descriptors of the tiles; change only while there are none. On machines that have them.
    query_release, key_release, value_release, mask_release, bias_release : Out(1)
        It was read for the last time: high for a cycle.
    results_issued : Out(1)
        The last SLNV of a query tile is at the corner: high for a cycle.
    west : Out(west_word(config))
        To row 0 of the west edge; counts in every cycle, like the next two, which belong to it.
    north : Out(north_word(config))
        To column 0 of the north edge.
    lane : Out(lane_word(config))
        To lane 0, by way of a delay.
    events : Out(sequencer_events())
        What happened in the cycle before.
    """

    def __init__(self, config: Config):
        self.config = config
        super().__init__(
            {
                "words": In(stream.Signature(data.StructLayout({"word": microword_layout(), "last": 1}))),
                "tiles": In(stream.Signature(tile_layout(config))),
                "query_loaded": In(1),
                "key_loaded": In(1),
                "value_loaded": In(1),
                "mask_loaded": In(1),
                "bias_loaded": In(1),
                "output_freed": In(1),
                **dict.fromkeys(array_flags(config), In(1)),
                "query_release": Out(1),
                "key_release": Out(1),
                "value_release": Out(1),
                "mask_release": Out(1),
                "bias_release": Out(1),
                "results_issued": Out(1),
                "west": Out(west_word(config)),
                "north": Out(north_word(config)),
                "lane": Out(lane_word(config)),
                "events": Out(sequencer_events()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        slot = Slot(self.config, self.words.payload.word)
        arrivals = self._count_arrivals(m)
        rooms = self._count_rooms(m)
        stalls = self._issue(m, slot, arrivals, rooms)
        ends = self._take_and_release(m, slot, arrivals, rooms)
        between = self._move_tiles_on(m, slot)
        west, north = self._operands(m, slot)
        lane, results = self._results(m, slot, ends)
        self._corner(m, west, north, lane, results)
        idle = ~slot.running | ~self.words.valid
        report_events(self.config, m, self.events, slot, stalls, between & self.tiles.valid, idle)
        return m

    @property
    def _in_keys(self) -> Value:
        """Whether SLNV reads the keys' buffer, the last to do so."""
        return self.values_in_keys if self.config.values_in_keys else Const(0)

    def _count_arrivals(self, m: Module) -> dict[str, Arrivals]:
        """Count what has come and is not used yet. That there is none is a register: it decides over every word."""
        config, arrivals = self.config, {}
        for name, loaded, most in (
            ("query", self.query_loaded, config.query_bank_beats),
            ("key", self.key_loaded, 3 if config.values_in_keys else 2),
            ("value", self.value_loaded, 2),
            ("mask", self.mask_loaded, 2),
            ("bias", self.bias_loaded, 2),
        ):
            count = Signal(range(most + 1), name=f"{name}_tiles")
            taken = Signal(name=f"{name}_taken")
            none = Signal(name=f"no_{name}", init=1)
            m.d.sync += [
                count.eq(count + loaded - taken),
                none.eq(~loaded & Mux(taken, count <= 1, count == 0)),
            ]
            arrivals[name] = Arrivals(taken, none)
        return arrivals

    def _count_rooms(self, m: Module) -> Rooms:
        """Count the rooms in the output buffers. All tiles of a busy period have the same number of them."""
        output_used, output_taken, output_full = Signal(range(self.config.output_beats + 1)), Signal(), Signal()
        slots = Signal.like(output_used)
        with m.If(self.tiles.valid):
            m.d.sync += slots.eq(self.tiles.payload.output_slots)
        m.d.sync += [
            output_used.eq(output_used + output_taken - self.output_freed),
            output_full.eq(~self.output_freed & Mux(output_taken, output_used + 1 >= slots, output_used >= slots)),
        ]
        return Rooms(output_taken, output_full)

    def _issue(self, m: Module, slot: Slot, arrivals: dict[str, Arrivals], rooms: Rooms) -> Stalls:
        """Issue the word if everything that it needs is there."""
        word, tile = slot.word, slot.tile
        begins = slot.running & self.words.valid & slot.present & word.first
        stall_q, stall_k, stall_v, stall_pairs, stall_output = Signal(), Signal(), Signal(), Signal(), Signal()
        stall_mask = slot.running & self.words.valid & slot.masks & slot.stages[0].tile.new_bits & arrivals["mask"].none
        stall_bias = begins & slot.bias & tile.new_keys & arrivals["bias"].none
        m.d.comb += [
            stall_q.eq(begins & slot.loads & tile.first & arrivals["query"].none),
            stall_k.eq(begins & slot.loads & tile.new_keys & arrivals["key"].none),
            stall_v.eq(begins & slot.slnv & tile.new_keys & ~self._in_keys & arrivals["value"].none),
            stall_pairs.eq(stall_mask | stall_bias),
            stall_output.eq(slot.running & self.words.valid & slot.begins_row & rooms.full),
            slot.issue.eq(slot.running & self.words.valid & ~(stall_q | stall_k | stall_v | stall_pairs | stall_output)),
            self.words.ready.eq(slot.issue),
        ]
        return Stalls(stall_q, stall_k, stall_v, stall_pairs, stall_output)

    def _take_and_release(self, m: Module, slot: Slot, arrivals: dict[str, Arrivals], rooms: Rooms) -> dict[str, ValueLike]:
        """Take what the tile's first operations use, release what its last ones have used; returns where QK and SLNV end."""
        word, tile, active = slot.word, slot.tile, slot.active
        last_of = {
            name: active & (word.op == op) & word.last for name, op in (("qk", Op.QK), ("slnv", Op.SLNV), ("bias", Op.BIAS))
        }
        m.d.comb += [
            arrivals["query"].taken.eq(active & slot.loads & tile.first),
            arrivals["key"].taken.eq(active & slot.loads & tile.new_keys),
            arrivals["value"].taken.eq(active & slot.slnv & word.first & tile.new_keys & ~self._in_keys),
            arrivals["mask"].taken.eq(slot.issue & slot.masks & slot.stages[0].tile.new_bits),
            arrivals["bias"].taken.eq(active & slot.bias & word.first & tile.new_keys),
            rooms.taken.eq(slot.issue & slot.begins_row),
        ]
        m.d.sync += [
            self.query_release.eq(last_of["qk"] & tile.last),
            self.key_release.eq(Mux(self._in_keys, last_of["slnv"], last_of["qk"]) & tile.free_keys),
            self.value_release.eq(last_of["slnv"] & tile.free_keys & ~self._in_keys),
            self.mask_release.eq(slot.issue & slot.masks & slot.stages[0].tile.free_bits),
            self.bias_release.eq(last_of["bias"] & tile.free_keys),
        ]
        return last_of

    def _move_tiles_on(self, m: Module, slot: Slot) -> Signal:
        """Take tiles out, and move them on by a stage between iterations; returns whether that is now."""
        config, word, stages, running = self.config, slot.word, slot.stages, slot.running
        hold = Signal(range(config.holds)) if config.holds > 1 else Signal(0)
        # Which tiles are there after the word: its tile leaves with its last SLNV.
        left = Cat(stage.valid & ~(slot.slnv & word.last & (word.stage == i)) for i, stage in enumerate(stages))
        with m.If(slot.issue):
            m.d.sync += [stage.valid.eq(there) for stage, there in zip(stages, left, strict=True)]

        # Between iterations: the next tile, or an empty iteration while older tiles are under way.
        between, going_on = Signal(), Signal()
        m.d.comb += [
            between.eq(~running | (slot.issue & self.words.payload.last)),
            going_on.eq(self.tiles.valid | left[:-1].any()),
            self.tiles.ready.eq(between),
        ]
        with m.If(between):
            m.d.sync += [
                running.eq(going_on),
                stages[0].valid.eq(self.tiles.valid),
                stages[0].hold.eq(hold),
                stages[0].tile.eq(self.tiles.payload),
            ]
            for stage, before, there in zip(stages[1:], stages, left, strict=False):
                m.d.sync += [stage.eq(before), stage.valid.eq(there)]
            if config.functions:
                # Programs with another number of registers come to an empty machine.
                last = Mux(self.spare_hold, config.holds - 2, config.holds - 1)
                m.d.sync += hold.eq(Mux(~going_on | (hold == last), 0, hold + 1))
            elif config.holds > 1:
                with m.If(going_on):
                    m.d.sync += hold.eq(Mux(hold == config.holds - 1, 0, hold + 1))
        return between

    def _operands(self, m: Module, slot: Slot) -> tuple[data.View, data.View]:
        """West and north word, in a register."""
        config, word, tile, stages, entry = self.config, slot.word, slot.tile, slot.stages, slot.entry
        west = Signal(west_word(config), name="west_word")
        north = Signal(north_word(config), name="north_word")
        code = Mux(slot.bias, OpCode.QK.value, Mux(slot.ent, OpCode.SLNV.value, word.op[: OpCode.as_shape().width]))
        op = Mux(slot.active, code, OpCode.NOP.value)
        spare = config.holds - 1
        hold = Mux(word.src, spare, entry.hold) if config.functions else entry.hold
        made = Mux(word.dst, spare, entry.hold) if config.functions else entry.hold
        beat, element = slot.beat, slot.element
        key_base = Mux(tile.buffer[1], 2 * config.key_beats, Mux(tile.buffer[0], config.key_beats, 0))
        bias_base = Mux(tile.bias_buffer, config.bias_base + config.bias_tiles * config.bias_words, config.bias_base) + (
            tile.reference << exact_log2(config.bias_words)
        )
        # Of 32 bits there are half as many in a bank's word.
        bias_beat = Mux(tile.bias_wide, word.index >> len(element) - 1, beat)
        bias_element = Mux(tile.bias_wide, element[:-1], element)
        value_base = Mux(tile.buffer[0], 2 * config.key_beats + config.value_beats, 2 * config.key_beats)
        m.d.sync += [
            west.control.op.eq(op),
            west.control.first.eq((Mux(slot.numerators, slot.ent, word.first) if config.entropy else word.first) & ~slot.bias),
            west.control.max.eq(slot.maximum),
            west.control.mask.eq(slot.issue & slot.masks),
            west.control.hold.eq(hold),
            west.control.hold_max.eq(Mux(word.max, slot.moved.hold, made) if config.linear else slot.moved.hold),
            west.beat.eq(Mux(slot.qk | self._in_keys, key_base, value_base) + beat),
            west.element.eq(element),
            west.row.eq(0),
            west.keys.eq(Mux(slot.bias, word.index, tile.keys)),
            west.bias.eq(slot.bias),
            north.source.eq(NorthSource.QUERY),
            north.hold.eq(entry.hold),
            north.beat.eq(tile.query + beat),
            north.element.eq(element),
            *(north[name].eq(stages[0].tile[name]) for name in ("lo", "hi", "phase", "share")),
            north.keys.eq(stages[0].tile.keys),
            north.queries.eq(stages[0].tile.queries),
            north.bits.eq(stages[0].tile.bits),
        ]
        with m.If(slot.bias):
            m.d.sync += [north.beat.eq(bias_base + bias_beat), north.element.eq(bias_element)]
        with m.If(word.mask):
            m.d.sync += [
                north.source.eq(NorthSource.INTERVAL),
                north.beat.eq(
                    Mux(stages[0].tile.block, config.mask_base + config.mask_tiles, config.mask_base) + stages[0].tile.reference
                ),
                north.element.eq(stages[0].tile.element),
            ]
        with m.Elif(word.op == OpCode.EXP):
            m.d.sync += north.source.eq(NorthSource.REFERENCE)
        if config.linear:
            with m.If(~word.mask & (((word.op == OpCode.EXP) & self.fixed_reference) | (word.op == OpCode.LIN))):
                m.d.sync += [
                    north.source.eq(NorthSource.CONSTANT),
                    # EXP takes the reference + 1, LIN what makes a weight's exponent 0.
                    north.keys.eq(Mux(word.op == OpCode.LIN, -ONE_EXPONENT, word.constant + 1)),
                ]
        if config.functions or config.entropy:
            slices = Array(slice_exponent(config, index) for index in range(SLICES))
            clears = slot.qk & word.src if config.functions else Const(0)
            m.d.sync += [
                west.constant.eq((word.op == OpCode.SET) | (word.op == OpCode.ADD) | slot.ent | clears),
                west.sig.eq(Mux(slot.ent | clears, 0, word.index.as_signed())),
                # Beside a key of 0 the smallest exponent, with which no product overflows that did not before.
                west.exponent.eq(Mux(slot.ent, slices[word.index[:2]], Mux(clears, 255, word.constant[:7]))),
            ]
        return west, north

    def _results(self, m: Module, slot: Slot, ends: dict[str, ValueLike]) -> tuple[data.View, Signal]:
        """Lane word, in a register, and whether a query tile's results end; they go out in bus words, one lane as the other."""
        config, word, tile, moved, active = self.config, slot.word, slot.tile, slot.moved, slot.active
        lane = Signal(lane_word(config), name="lane_word")
        output = Signal.like(lane.output)
        half = (1 << len(slot.element) - 1) - 1
        place = Mux(tile.float32_out, word.index & half, slot.element)
        full = Mux(tile.float32_out, place == half, place == config.beat_elements - 1)
        write = active & tile.last & Mux(slot.sums, tile.state_out, slot.numerators & (full | word.last))
        with m.If(write):
            m.d.sync += output.eq(Mux(output == config.output_beats - 1, 0, output + 1))
        results = Signal()
        m.d.sync += [
            lane.max.eq(slot.maximum & ~self.fixed_reference if config.linear else slot.maximum),
            lane.sum.eq(active & slot.sums),
            lane.slnv.eq(active & slot.numerators),
            lane.first_max.eq(moved.tile.first),
            lane.first.eq(tile.first),
            lane.last.eq(tile.last),
            lane.hold.eq(slot.entry.hold),
            lane.hold_max.eq(moved.hold),
            lane.reference.eq(moved.tile.reference),
            lane.state.eq(tile.state + word.index),
            lane.float32_out.eq(tile.float32_out),
            lane.raw_out.eq(tile.raw_out),
            lane.element.eq(place),
            lane.write.eq(write),
            lane.output.eq(output),
            results.eq(ends["slnv"] & tile.last),
        ]
        if config.linear:
            m.d.sync += [
                lane.check.eq(slot.maximum | (active & (word.op == OpCode.LIN))),
                lane.fixed.eq(self.fixed_reference),
            ]
        return lane, results

    def _corner(self, m: Module, west: data.View, north: data.View, lane: data.View, results: Signal) -> None:
        """Give the words to the corner, in a second register."""
        m.d.sync += [
            self.west.eq(west),
            self.north.eq(north),
            self.lane.eq(lane),
            self.results_issued.eq(results),
        ]


def report_events(
    config: Config, m: Module, events: data.View, slot: Slot, stalls: Stalls, tile: ValueLike, idle: ValueLike
) -> None:
    """Tell the counters what happened, a cycle later."""
    word, active = slot.word, slot.active
    m.d.sync += [
        events.tiles.eq(tile),
        events.slots_qk.eq(active & slot.qk),
        events.slots_exp.eq(active & (word.op == OpCode.EXP)),
        events.slots_sum.eq(active & slot.sums),
        events.slots_slnv.eq(active & slot.slnv),
        events.slots_max.eq(slot.maximum),
        events.slots_function.eq(active & Cat(word.op == op for op in function_ops(config)).any()),
        events.slots_empty.eq(slot.issue & (~slot.present | (word.op == OpCode.NOP))),
        events.stall_q.eq(stalls.query | stalls.pairs),
        events.stall_k.eq(stalls.key & ~stalls.query & ~stalls.pairs),
        events.stall_v.eq(stalls.value & ~stalls.pairs),
        events.stall_output.eq(stalls.output & ~stalls.value & ~stalls.pairs),
        events.idle.eq(idle),
    ]

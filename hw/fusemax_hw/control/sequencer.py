"""Sequencer: issues one microword a cycle, or withholds it while an operand is not there."""

from typing import Any

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from fusemax.spec import Config

from ..words import NorthSource, OpCode, lane_word, north_word, west_word
from .issue_walker import tile_layout
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
        "slots_empty",
        "stall_q",
        "stall_k",
        "stall_v",
        "stall_output",
        "idle",
    )
    return data.StructLayout(dict.fromkeys(names, 1))


class Sequencer(wiring.Component):
    """Kernel-only modulo schedule: tiles enter at stage 0 and move on by one stage per iteration.

    An operation is executed only if its stage holds a tile; a tile's last SLNV takes it out. An iteration without a new tile
    runs only while older tiles are under way; nothing is withheld for a tile that is not known yet. What a tile waits for: Q
    and K at its first QK, V at its first SLNV, room in the output buffers there too or, if its state goes out, at SUM.

    Members
    -------
    words : In
        The program's loop.
    tiles : In
        Tiles in order.
    query_loaded, key_loaded, value_loaded, output_freed : In(1)
        A tile has come; a query tile's results have left the output buffers.
    query_release, key_release, value_release : Out(1)
        A tile was read for the last time.
    results_issued : Out(1)
        The last SLNV of a query tile is at the corner.
    west, north, lane : Out
        To the corner of the array, all in the same cycle.
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
                "output_freed": In(1),
                "query_release": Out(1),
                "key_release": Out(1),
                "value_release": Out(1),
                "results_issued": Out(1),
                "west": Out(west_word(config)),
                "north": Out(north_word(config)),
                "lane": Out(lane_word(config)),
                "events": Out(sequencer_events()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        config = self.config
        element_log2 = (config.beat_elements - 1).bit_length()
        word = self.words.payload.word
        hold_shape = unsigned((config.holds - 1).bit_length())
        stage_layout = data.StructLayout({"valid": 1, "hold": hold_shape, "tile": tile_layout(config)})

        # Tiles under way, youngest first.
        stages = [Signal(stage_layout, name=f"stage_{index}") for index in range(config.contexts)]
        running = Signal()
        hold = Signal(range(config.holds)) if config.holds > 1 else Signal(0)
        entry = Array(stages)[word.stage]
        tile = entry.tile
        present = entry.valid

        # What has come and is not used yet. That there is none is a register: it decides over every word.
        taken, none = {}, {}
        for name, loaded, most in (
            ("query", self.query_loaded, config.query_bank_beats),
            ("key", self.key_loaded, 2),
            ("value", self.value_loaded, 2),
        ):
            count = Signal(range(most + 1), name=f"{name}_tiles")
            taken[name] = Signal(name=f"{name}_taken")
            none[name] = Signal(name=f"no_{name}", init=1)
            m.d.sync += [
                count.eq(count + loaded - taken[name]),
                none[name].eq(~loaded & Mux(taken[name], count <= 1, count == 0)),
            ]
        # Likewise the rooms in the output buffers. All tiles of a busy period have the same number of them.
        output_used, output_taken, output_full = Signal(range(config.output_beats + 1)), Signal(), Signal()
        slots = Signal.like(output_used)
        with m.If(self.tiles.valid):
            m.d.sync += slots.eq(self.tiles.payload.output_slots)
        m.d.sync += [
            output_used.eq(output_used + output_taken - self.output_freed),
            output_full.eq(~self.output_freed & Mux(output_taken, output_used + 1 >= slots, output_used >= slots)),
        ]

        # May the word be issued?
        begins = running & self.words.valid & present & word.first
        qk, slnv, sums = word.op == OpCode.QK, word.op == OpCode.SLNV, word.op == OpCode.SUM
        begins_row = present & tile.last & Mux(tile.state_out, sums, slnv & word.first)
        stall_q, stall_k, stall_v, stall_output = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            stall_q.eq(begins & qk & tile.first & none["query"]),
            stall_k.eq(begins & qk & tile.new_keys & none["key"]),
            stall_v.eq(begins & slnv & tile.new_keys & none["value"]),
            stall_output.eq(running & self.words.valid & begins_row & output_full),
        ]
        issue = Signal()
        m.d.comb += [
            issue.eq(running & self.words.valid & ~(stall_q | stall_k | stall_v | stall_output)),
            self.words.ready.eq(issue),
        ]
        active = issue & present
        last_of = {name: active & (word.op == op) & word.last for name, op in (("qk", OpCode.QK), ("slnv", OpCode.SLNV))}
        m.d.comb += [
            taken["query"].eq(active & qk & word.first & tile.first),
            taken["key"].eq(active & qk & word.first & tile.new_keys),
            taken["value"].eq(active & slnv & word.first & tile.new_keys),
            output_taken.eq(issue & begins_row),
        ]
        m.d.sync += [
            self.query_release.eq(last_of["qk"] & tile.last),
            self.key_release.eq(last_of["qk"] & tile.free_keys),
            self.value_release.eq(last_of["slnv"] & tile.free_keys),
        ]

        # Which tiles are there after the word: its tile leaves with its last SLNV.
        left = Cat(stage.valid & ~(slnv & word.last & (word.stage == i)) for i, stage in enumerate(stages))
        with m.If(issue):
            m.d.sync += [stage.valid.eq(there) for stage, there in zip(stages, left, strict=True)]

        # Between iterations: the next tile, or an empty iteration while older tiles are under way.
        between, going_on = Signal(), Signal()
        m.d.comb += [
            between.eq(~running | (issue & self.words.payload.last)),
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
            if config.holds > 1:
                with m.If(going_on):
                    m.d.sync += hold.eq(Mux(hold == config.holds - 1, 0, hold + 1))

        # First register.
        west, north, lane = Signal(west_word(config)), Signal(north_word(config)), Signal(lane_word(config))
        previous = stages[1]
        masks, maximum = issue & word.mask & stages[0].valid, issue & word.max & previous.valid
        op = Mux(active, word.op.as_value(), OpCode.NOP.value)
        beat = word.index >> element_log2
        element = word.index[:element_log2]
        key_base = Mux(tile.buffer, config.key_beats, 0)
        value_base = Mux(tile.buffer, 2 * config.key_beats + config.value_beats, 2 * config.key_beats)
        m.d.sync += [
            west.control.op.eq(op),
            west.control.first.eq(word.first),
            west.control.max.eq(maximum),
            west.control.mask.eq(masks),
            west.control.hold.eq(entry.hold),
            west.control.hold_max.eq(previous.hold),
            west.beat.eq(Mux(qk, key_base, value_base) + beat),
            west.element.eq(element),
            west.row.eq(0),
            north.source.eq(NorthSource.QUERY),
            north.hold.eq(entry.hold),
            north.beat.eq(tile.query + beat),
            north.element.eq(element),
            *(north[name].eq(stages[0].tile[name]) for name in ("lo", "hi", "phase", "share")),
            north.keys.eq(stages[0].tile.keys),
            north.queries.eq(stages[0].tile.queries),
        ]
        with m.If(word.mask):
            m.d.sync += north.source.eq(NorthSource.INTERVAL)
        with m.Elif(word.op == OpCode.EXP):
            m.d.sync += north.source.eq(NorthSource.REFERENCE)

        # Results go out in bus words, one lane as the other.
        output = Signal.like(lane.output)
        half = (1 << element_log2 - 1) - 1
        place = Mux(tile.float32_out, word.index & half, element)
        full = Mux(tile.float32_out, place == half, place == config.beat_elements - 1)
        write = active & tile.last & Mux(sums, tile.state_out, slnv & (full | word.last))
        with m.If(write):
            m.d.sync += output.eq(Mux(output == config.output_beats - 1, 0, output + 1))
        results = Signal()
        m.d.sync += [
            lane.max.eq(maximum),
            lane.sum.eq(active & sums),
            lane.slnv.eq(active & slnv),
            lane.first_max.eq(previous.tile.first),
            lane.first.eq(tile.first),
            lane.last.eq(tile.last),
            lane.hold.eq(entry.hold),
            lane.hold_max.eq(previous.hold),
            lane.reference.eq(previous.tile.reference),
            lane.state.eq(tile.state + word.index),
            lane.float32_out.eq(tile.float32_out),
            lane.raw_out.eq(tile.raw_out),
            lane.element.eq(place),
            lane.write.eq(write),
            lane.output.eq(output),
            results.eq(last_of["slnv"] & tile.last),
        ]
        # Second register: the corner.
        m.d.sync += [
            self.west.eq(west),
            self.north.eq(north),
            self.lane.eq(lane),
            self.results_issued.eq(results),
        ]

        events = self.events
        m.d.sync += [
            events.tiles.eq(between & self.tiles.valid),
            events.slots_qk.eq(active & qk),
            events.slots_exp.eq(active & (word.op == OpCode.EXP)),
            events.slots_sum.eq(active & sums),
            events.slots_slnv.eq(active & slnv),
            events.slots_max.eq(maximum),
            events.slots_empty.eq(issue & (~present | (word.op == OpCode.NOP))),
            events.stall_q.eq(stall_q),
            events.stall_k.eq(stall_k & ~stall_q),
            events.stall_v.eq(stall_v),
            events.stall_output.eq(stall_output & ~stall_v),
            events.idle.eq(~running | ~self.words.valid),
        ]
        return m

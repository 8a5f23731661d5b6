"""Mistakes in the hardware, one for every statement, which a proof that can fail must find."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BREAKS", "Break"]


@dataclass(frozen=True)
class Break:
    """A mistake: ``old`` in a file is ``new``; ``statements`` of a proof become false, each by itself."""

    file: str
    old: str
    new: str
    statements: tuple[str, ...]


BUS, CONTROL = "hw/fusemax_hw/bus", "hw/fusemax_hw/control"
SKID, BURSTS, READER, WRITER = (f"{BUS}/{name}.py" for name in ("skid", "bursts", "reader", "writer"))
REGISTERS, ARBITER, CHECK = (f"{CONTROL}/{name}.py" for name in ("registers", "request_arbiter", "descriptor_check"))
LOAD, ISSUE = (f"{CONTROL}/{name}.py" for name in ("load_walker", "issue_walker"))
PE = "hw/fusemax_hw/pe/pe.py"
TOO_LONG = (BURSTS, "length.eq(Mux(last, more, room))", "length.eq(Mux(last, more, room + 1))")
UNCHECKED = (f"{BUS}/window.py", "~(old.before | old.behind |", "~(old.behind |")

#: By proof.
BREAKS: dict[str, tuple[Break, ...]] = {
    "skid buffer": (
        Break(SKID, "~self.source.valid | self.source.ready)", "~spare_valid | self.source.ready)", ("offers stay",)),
        Break(SKID, "Mux(spare_valid, spare, self.sink.payload)", "self.sink.payload", ("order, nothing lost",)),
        Break(SKID, "valid.eq(spare_valid | self.sink.valid)", "valid.eq(1)", ("nothing invented",)),
        Break(SKID, "ready.eq(~spare_valid)", "ready.eq(1)", ("holds two",)),
    ),
    # Of a library: here the proof itself is mistaken.
    "queue": (
        Break("tests/hw/proofs/streams.py", "fifo.w_en & fifo.w_rdy", "fifo.w_en", ("order, nothing lost", "level")),
        Break("tests/hw/proofs/streams.py", "fifo.r_en & fifo.r_rdy, self", "fifo.r_en, self", ("nothing invented",)),
        Break(
            "tests/hw/proofs/streams.py", "last(m, marked.level != 0) & last(m, marked.level != 0, 2) & (", "(", ("comes out",)
        ),
    ),
    "ring": (Break("hw/fusemax_hw/array/ring_delay.py", "== self._cycles - 1, 0", "== self._cycles - 2, 0", ("delay",)),),
    "delay line": (Break("hw/fusemax_hw/lane/delay.py", "depth - (self._cycles - 1)", "depth - self._cycles", ("delay",)),),
    "burst splitter": (
        Break(*TOO_LONG, ("bursts are legal",)),
        Break(BURSTS, "self.bursts.ready & last)", "last)", ("offers stay",)),
        Break(BURSTS, "(room + 1) << word_log2", "room << word_log2", ("each follows the one before",)),
        Break(BURSTS, "more.eq(more - room - 1)", "more.eq(more - room)", ("no word left or added",)),
        Break(BURSTS, "tag.eq(run.tag)", "tag.eq(tag)", ("tags",)),
        Break(BURSTS, "settling.eq(0)", "settling.eq(self.runs.valid)", ("no wait",)),
    ),
    "window": (
        Break(SKID, "Mux(spare_valid, spare, self.sink.payload)", "self.sink.payload", ("the same in order",)),
        Break(*UNCHECKED, ("what is inside is allowed, and nothing else",)),
    ),
    "read port": (
        Break(READER, "(offered | ~self.drain)", "~self.drain", ("offers stay",)),
        Break(*TOO_LONG, ("bursts are legal",)),
        Break(*UNCHECKED, ("no read outside the window",)),
        Break(READER, "config.outstanding_reads)", "config.outstanding_reads + 1)", ("no more than may be under way",)),
        Break(
            READER,
            "may_begin.eq(pending.w_rdy & (offered | ~self.drain))",
            "may_begin.eq(pending.w_rdy)",
            ("nothing is begun that drain forbids",),
        ),
        Break(READER, "r.ready.eq(pending.r_rdy)", "r.ready.eq(1)", ("nothing is taken that was not asked for",)),
        Break(READER, "r.ready.eq(pending.r_rdy)", "r.ready.eq(pending.r_rdy & ~self.drain)", ("answers are taken",)),
        Break(READER, "position.eq(0)", "position.eq(1)", ("words in order, with their addresses",)),
    ),
    "write port": (
        Break(WRITER, "(offered | ~self.drain) & window", "~self.drain & window", ("offers of addresses stay",)),
        Break(WRITER, "void.eq(self.drain & (voided | ~held))", "void.eq(self.drain)", ("offers of words stay",)),
        Break(*TOO_LONG, ("bursts are legal",)),
        Break(*UNCHECKED, ("no write outside the window",)),
        Break(
            WRITER,
            "bursts.ready.eq(self.aw.ready & may_begin)",
            "bursts.ready.eq((self.aw.ready & may_begin) | ~window.allowed)",
            ("nothing follows what was refused",),
        ),
        Break(
            WRITER,
            "answer.size, depth=config.outstanding_writes",
            "answer.size, depth=config.outstanding_writes + 1",
            ("no more than may be under way",),
        ),
        Break(WRITER, "& (offered | ~self.drain) & window", "& window", ("nothing is begun that drain forbids",)),
        Break(WRITER, "(self.data.valid | void) & lengths.r_rdy", "self.data.valid | void", ("no word before its address",)),
        Break(WRITER, "position == current.length", "position >= current.length - 1", ("the last word is the last",)),
        Break(WRITER, "(1 << current.tail_bytes) - 1", "(2 << current.tail_bytes) - 2", ("strobes from the first byte on",)),
        Break(WRITER, "strobe.eq(Mux(void, 0,", "strobe.eq(Mux(0, 0,", ("drained words write nothing",)),
        Break(WRITER, "b.ready.eq(answers.r_rdy)", "b.ready.eq(1)", ("nothing is taken that was not asked for",)),
        Break(WRITER, "b.ready.eq(answers.r_rdy)", "b.ready.eq(answers.r_rdy & ~self.drain)", ("answers are taken",)),
    ),
    "register port": (
        Break(REGISTERS, "with m.Elif(bus.r.ready):", "with m.Else():", ("answers stay",)),
        Break(
            REGISTERS,
            "bus.aw.valid & bus.w.valid & ~bus.b",
            "bus.aw.valid & ~bus.b",
            ("no answer to a write before address and data",),
        ),
        Break(
            REGISTERS,
            "with m.If(reading):\n            m.d.sync += bus.r",
            "with m.If(reading | bus.ar.valid):\n            m.d.sync += bus.r",
            ("no answer to a read before its address",),
        ),
        Break(REGISTERS, "~bus.r.valid & ~reading", "~bus.r.valid", ("one at a time",)),
        Break(REGISTERS, "write.eq(take_write)", "write.eq(take_write & ~bus.ar.valid)", ("answers after two cycles",)),
        Break(REGISTERS, "~bus.r.valid & ~reading", "~bus.r.valid & ~reading & ~writing", ("taken at once",)),
    ),
    "request arbiter": (
        Break(SKID, "~self.source.valid | self.source.ready)", "~spare_valid | self.source.ready)", ("offers stay",)),
        Break(ARBITER, "with m.Elif(port.valid & first)", "with m.If(port.valid & first)", ("one at a time",)),
        Break(SKID, "Mux(spare_valid, spare, self.sink.payload)", "self.sink.payload", ("order, nothing lost",)),
        Break(SKID, "valid.eq(spare_valid | self.sink.valid)", "valid.eq(1)", ("nothing invented",)),
        Break(ARBITER, "(before | ~ports[other].valid)", "before", ("somebody goes",)),
    ),
    "loading K": (
        Break(LOAD, "free.eq(free - starts + self.release)", "free.eq(free - starts)", ("the next row comes",)),
        Break(LOAD, "room.eq(self.release | Mux(starts, free > 1, free != 0))", "room.eq(1)", ("no more than two tiles",)),
    ),
    "loading V": (
        Break(LOAD, "free.eq(free - starts + self.release)", "free.eq(free - starts)", ("the next row comes",)),
        Break(LOAD, "free.eq(free - starts + self.release)", "free.eq(free + self.release)", ("no more than two tiles",)),
    ),
    "issue": (
        Break(ISSUE, "Cat(walk.running, settling", "Cat(walk.running & ~self.tiles.ready, settling", ("the next tile comes",)),
        Break(ISSUE, "settled & (~walk.needed | ~self.tiles.valid)", "settled", ("offers stay",)),
    ),
    "descriptor check of an odd machine": (
        Break(CHECK, "job.f < most(", "job.f <= most(", ("its twin takes what it takes",)),
        Break(CHECK, "job.query_slots <= most(", "job.query_slots < most(", ("it takes what its twin takes",)),
    ),
    "descriptor check": (
        Break(CHECK, "& (job[name] <= limit)", "& (job[name] < limit)", ("it takes what its twin takes",)),
        Break(CHECK, "(job[name] != 0) & (job[name] <= limit)", "job[name] <= limit", ("its twin takes what it takes",)),
    ),
    "PE and its model": (
        Break(PE, "p.carry = placed.carry", "p.carry = placed.carry & ~p.product[7]", ("score of QK", "value of SUM")),
        Break(PE, "| p.negative |", "|", ("overflow of QK",)),
        Break(PE, "~partial.valid | ~above[-1]", "~above[-1]", ("maximum",)),
        Break(
            PE,
            "put_aside = Cat(registers.score, registers.visible)",
            "put_aside = Cat(registers.score, C(1, 1))",
            ("score put aside",),
        ),
        Break(PE, "raises = ahead & p.live", "raises = ahead", ("coarse exponent of SUM and SLNV",)),
    ),
}

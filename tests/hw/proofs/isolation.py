"""What a PE does for a row that its query may not see, as statements that a solver proves for all inputs and all registers.

In step 0 any legal word is at the PE, whose registers hold anything; before and behind it are any others. Every statement is
about that one word. Together they say: a row whose mask bit is 0 at MAX leaves the partial values of its tile as they came.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from fusemax.spec import NORTH_BITS, Port, Timing
from fusemax_hw.pe import Pe
from fusemax_hw.pe.interval import KeyInterval
from fusemax_hw.words import OpCode

from .solver import Harness, Verdict, check

__all__ = ["STATEMENTS", "Isolation", "prove_isolation"]

#: Statements by name.
STATEMENTS = {
    "seen": "MASK sets the mask bit of a row that its word says is seen, and clears that of another one.",
    "bias": "BIAS, a QK without first, of significand 0 leaves score and overflow of the row as they are.",
    "maximum": "MAX with mask bit 0 hands on maximum, valid and overflow as they came.",
    "put aside": "MAX with mask bit 0 puts aside a score with mask bit 0.",
    "weight": "EXP and LIN make a weight of 0 of a score with mask bit 0.",
    "range": "LIN of a score with mask bit 0 hands on overflow as it came.",
    "product": "SET makes a score of 0 of a weight of 0, with the mask bit that is beside the accumulator.",
    "score": "ADD of a weight of 0 leaves the score as it is, or as 0 if it is to be no more than that.",
    "coarse": "SUM and SLNV with a weight of 0 hand on the coarse exponent as it came.",
    "sum": "SUM and SLNV with a weight of 0 hand on the partial sum as it came.",
    "hold": "A word that does not write a hold register leaves it as it is.",
}


class Isolation(Harness):
    """A PE, and registers that remember the word of step 0 and what it met.

    The PE begins in any state, and all statements are about the first steps.
    """

    any_state = ("pe",)

    def __init__(self, pe: Pe, names: Collection[str] | None = None):
        super().__init__(names)
        self.pe = pe
        self.step = Signal(range(pe.latency + 2))

    def build(self, m: Module) -> dict[str, Any]:
        m.submodules.pe = self.pe
        self.inputs += [Value.cast(port) for port in (self.pe.west, self.pe.north, self.pe.partial)]
        m.d.sync += self.step.eq(self.step + (self.step <= self.pe.latency))
        self._assume()
        return {name: (self.step != step) | statement for name, (step, statement) in self._statements(m).items()}

    def _assume(self) -> None:
        """The word is one that the host's program checker lets pass, and the interval one of the north feeder."""
        control, config = self.pe.west.control, self.pe.config
        self.assume(~control.max | (control.op == OpCode.NOP) | (control.op == OpCode.QK))
        self.assume((control.hold < config.holds) & (control.hold_max < config.holds))
        self.assume(~control.mask | (self.pe.west.exponent < config.rows))
        if config.rows > NORTH_BITS:
            interval = data.View(KeyInterval, self.pe.north.operand)
            self.assume(~control.mask | ((interval.lo <= config.rows) & (interval.hi <= config.rows)))

    def _is_seen(self) -> Value:
        """What the word says of the row: a bit per row, or an interval."""
        pe, row = self.pe, self.pe.west.exponent
        if pe.config.rows <= NORTH_BITS:
            return pe.north.as_value().bit_select(row, 1)
        interval = data.View(KeyInterval, pe.north.operand)
        return (interval.lo <= row) & (row < interval.hi)

    def _at(self, m: Module, step: int, value: Any, name: str) -> Any:
        """What ``value`` was in a step, from the next one on."""
        kept = Signal.like(value, name=name)
        with m.If(self.step == step):
            m.d.sync += kept.eq(value)
        return kept

    def _statements(self, m: Module) -> dict[str, tuple[int, Value]]:
        """Of every name of :data:`STATEMENTS` the step in which its statement must be true, and the statement."""
        pe, registers, last = self.pe, self.pe.registers, self.pe.latency - 1
        config = pe.config
        mask_bit, mantissa_bits = config.score_bits, config.mantissa_bits
        coarse_stage = Timing(pe.config).coarse_stage
        control = pe.west.control
        held = Array(registers.holds)[control.hold]

        word = self._at(m, 0, control, "word")
        in_view = self._at(m, 0, self._is_seen(), "in_view")
        seen = self._at(m, 0, held[mask_bit], "seen")
        no_weight = self._at(m, 0, held[:mantissa_bits] == 0, "no_weight")
        coarse = self._at(m, coarse_stage, pe.partial.coarse, "coarse")
        value, valid, overflow = (self._at(m, last, getattr(pe.partial, name), name) for name in ("value", "valid", "overflow"))
        visible = self._at(m, last, registers.visible, "visible")
        before = [self._at(m, last, hold, f"before_{index}") for index, hold in enumerate(registers.holds)]

        score_before = self._at(m, last, registers.score, "score_before")
        # Of a key of 0, which a west feeder gives the exponent 255, and a scaled query's exponent.
        idle = (control.op == OpCode.QK) & ~control.first & (pe.west.sig == 0) & (pe.west.exponent == 255)
        adds_nothing = self._at(m, 0, idle & (pe.north.exponent >= -255), "adds_nothing")
        overflow_before = self._at(m, last, registers.overflow, "overflow_before")
        unchanged = (registers.score == score_before) & (registers.overflow == overflow_before)
        sign_stage = Timing(config).read_stage(Port.SIGN)
        sign_before = self._at(m, sign_stage, registers.score[-1], "sign_before")

        is_weight, is_sum = word.op == OpCode.EXP, (word.op == OpCode.SUM) | (word.op == OpCode.SLNV)
        is_lin, is_set, is_add = C(0), C(0), C(0)
        if config.linear:
            is_lin = word.op == OpCode.LIN
            is_weight = is_weight | is_lin
        if config.functions:
            is_set, is_add = word.op == OpCode.SET, word.op == OpCode.ADD
        made = word.hold_max if config.linear else word.hold
        out = pe.partial_out
        passes = (out.value == value) & (out.valid == valid) & (out.overflow == overflow)
        stays = [
            ((is_weight | is_set) & (made == index)) | (word.max & (word.hold_max == index)) | (hold == earlier)
            for index, (hold, earlier) in enumerate(zip(registers.holds, before, strict=True))
        ]
        weight, score = Array(registers.holds)[made], Array(registers.holds)[word.hold_max]
        product = (weight[:mask_bit] == 0) & (weight[mask_bit] == visible)
        left = Mux(word.first & ~sign_before, 0, score_before)
        return {
            "seen": (last + 1, ~word.mask | (registers.visible == in_view)),
            "bias": (last + 1, ~adds_nothing | unchanged),
            "maximum": (last + 1, ~word.max | visible | passes),
            "put aside": (last + 1, ~word.max | visible | ~score[mask_bit]),
            "weight": (last + 1, ~is_weight | seen | (weight[:mantissa_bits] == 0)),
            "range": (last + 1, ~is_lin | seen | (out.overflow == overflow)),
            "product": (last + 1, ~is_set | ~no_weight | product),
            "score": (last + 1, ~is_add | ~no_weight | (registers.score == left)),
            "coarse": (coarse_stage + 1, ~is_sum | ~no_weight | (out.coarse == coarse)),
            "sum": (last + 1, ~is_sum | ~no_weight | (out.value == value)),
            "hold": (last + 1, Cat(stays).all()),
        }


def prove_isolation(pe: Pe, names: Collection[str] | None = None) -> Verdict:
    """Try to prove statements of :data:`STATEMENTS` for a PE, all of them if no names are given."""
    return check(Isolation(pe, names), pe.latency + 2)

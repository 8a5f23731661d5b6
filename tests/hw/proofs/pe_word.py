"""What a PE makes of one word, against the formulas of its model, for all words and states."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Value

from fusemax.arith.column_sum import ONE_EXPONENT, ONE_SIG, STEP, STEP_LOG2, STEPS, TOP_COARSE
from fusemax.arith.placement import MAX_SHIFT
from fusemax_hw.words import OpCode

from .isolation import Isolation

__all__ = ["PeSum", "PeWord"]


def place(product: Any, align: int, shift: Any) -> Value:
    """:func:`fusemax.arith.placement.place` of signals."""
    amount = Mux((shift < 0) | (shift > MAX_SHIFT), MAX_SHIFT, shift)[: MAX_SHIFT.bit_length()]
    # Half up: a bit below the lowest is kept, to which the half is added.
    return ((Cat(C(0, 1), product << align).as_signed() >> amount) + 1) >> 1


class PeWord(Isolation):
    """The word of step 0: :class:`fusemax_hw.pe.model.PeModel`, without EXP and what options bring.

    Significands are of 8 bits and a sign, and a weight is 0 or has its leading one, as EXP makes it.
    """

    def _assume(self) -> None:
        super()._assume()
        mantissa = Array(self.pe.registers.holds)[self.pe.west.control.hold][: self.pe.config.mantissa_bits]
        self.assume(self.pe.west.sig != -256)
        self.assume((self.step != 0) | (mantissa == 0) | mantissa[-1])

    def _statements(self, m: Module) -> dict[str, tuple[int, Value]]:
        pe, registers, config = self.pe, self.pe.registers, self.pe.config
        last, coarse_stage, align = pe.latency - 1, pe.coarse_stage, config.product_align
        control, west, north, out = pe.west.control, pe.west, pe.north, pe.partial_out
        word = self._at(m, 0, control, "word")
        score, overflow, visible = (self._at(m, last, getattr(registers, n), n) for n in ("score", "overflow", "visible"))
        value, valid, range_ = (
            self._at(m, last, getattr(pe.partial, n), f"partial_{n}") for n in ("value", "valid", "overflow")
        )

        # QK.
        shift = self._at(m, 0, north.exponent + west.exponent, "shift")
        placed = self._at(m, 0, place(north.operand * west.sig, align, north.exponent + west.exponent), "placed")
        total = placed + Mux(word.first, 0, score)
        wrapped = total[: config.score_bits].as_signed()
        is_qk = word.op == OpCode.QK

        # MAX, of a maximum that is the complement of a score.
        is_score = value == value[: config.score_bits].as_signed()
        larger = visible & (~valid | (score > ~value))
        maximum = Mux(larger, (~score).as_signed(), value)
        passed = (out.value == maximum) & (out.valid == (valid | visible)) & (out.overflow == (range_ | (overflow & visible)))
        kept = Array(registers.holds)[word.hold_max]

        # SUM and SLNV.
        held = Array(registers.holds)[control.hold]
        is_sum = control.op == OpCode.SUM
        weight, weight_exponent = held[: config.mantissa_bits], held[config.mantissa_bits :][:6]
        amount = self._at(m, 0, (weight_exponent + Mux(is_sum, ONE_EXPONENT, west.exponent))[:9], "amount")
        product = self._at(m, 0, weight * Mux(is_sum, ONE_SIG, west.sig), "product")
        live = self._at(m, 0, weight != 0, "live")
        coarse = self._at(m, coarse_stage, pe.partial.coarse, "coarse")
        ahead = TOP_COARSE - (amount >> STEP_LOG2) - coarse
        steps = Mux(live & (ahead > 0), ahead, 0)
        down = (amount & STEP - 1) + STEP * Mux(ahead < 0, -ahead, 0)
        moved = Mux(steps > STEPS, 0, value >> (STEP * steps)[:5])
        total_sum = (moved + Mux(live, place(product, align, down), 0))[: config.sum_bits].as_signed()
        sums = (word.op == OpCode.SUM) | (word.op == OpCode.SLNV)
        return {
            "score of QK": (last + 1, ~is_qk | (registers.score == wrapped)),
            "overflow of QK": (
                last + 1,
                ~is_qk | (registers.overflow == ((wrapped != total) | (shift < 0) | (overflow & ~word.first))),
            ),
            "maximum": (last + 1, ~word.max | ~is_score | passed),
            "score put aside": (last + 1, ~word.max | (kept == Cat(score, visible))),
            "coarse exponent of SUM and SLNV": (coarse_stage + 1, ~sums | (out.coarse == (coarse + steps)[:6])),
            "value of SUM": (last + 1, (word.op != OpCode.SUM) | (out.value == total_sum)),
        }


class PeSum(PeWord):
    """A PE whose word is a SUM: its product is a weight times 1, where that of SLNV is too much for the solver."""

    def _assume(self) -> None:
        super()._assume()
        self.assume((self.step != 0) | (self.pe.west.control.op == OpCode.SUM))

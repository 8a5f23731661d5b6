"""Running sum: state rescaled, plus a tile's sum."""

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fusemax.arith.state import FRACTION_BITS, ZERO_EXPONENT

from ..words import state_float
from .leading_zeros import count_leading_zeros
from .normalise import normalised_sum
from .shift import shift_left, shift_right_sticky

__all__ = ["StateAdd"]

SIGNIFICAND_BITS = FRACTION_BITS + 1
#: Frames are at most 50 bits, so the largest shift of so many bits leaves nothing but the sticky bit.
GAP_BITS = 6


def saturated(difference: Any) -> Any:
    """A difference that is not negative as a shift of ``GAP_BITS``."""
    return difference[:GAP_BITS] | difference[GAP_BITS:].any().replicate(GAP_BITS)


class StateAdd(wiring.Component):
    """state · 2^-distance + addend, rounded to nearest even as if computed without limits.

    Model: :func:`fusemax.arith.state.add`. The addition is (state + addend · 2^distance) · 2^-distance, so that the distance
    enters where there is time for it.

    One a cycle; result after :attr:`latency` cycles. The rounding increment lies behind the last register, in the cycle that
    writes the state back.

    Parameters
    ----------
    sum_bits : int
        Bits of the addend's significand, 28 or more.

    Members
    -------
    state : In(state_float())
        Sign and fraction of a zero mean nothing.
    addend : In(normalised_sum(sum_bits))
        A sum of ``sum_bits`` bits two's complement, so the significand's lowest bit is 0. The exponent is the sum's plus
        ``distance``.
    distance : In(8)
    result : Out(state_float())
        Sign and fraction of a zero mean nothing.
    """

    #: Register stages: compare; align; add and count leading zeros; shift.
    latency = 4

    def __init__(self, sum_bits: int):
        self._sum_bits = sum_bits
        super().__init__(
            {
                "state": In(state_float()),
                "addend": In(normalised_sum(sum_bits)),
                "distance": In(8),
                "result": Out(state_float()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Bits are lost at gaps of two and more (at one, only the addend's lowest bit would be, and it is 0). There the leading
        # one moves by at most one place, and the frame's lowest bit is below the rounding position: it takes the sticky bit.
        frame_bits = self._sum_bits

        # Stage 1: which operand is the larger one, and how far away is the other? The other difference is formed without
        # inverting the state: addend - state = ~(state + ~addend) = ~beyond.
        state, addend = self.state, self.addend
        exponent_bits = len(state.exponent) + 1
        ahead, beyond = Signal(signed(exponent_bits)), Signal(signed(exponent_bits))
        state_zero = Signal()
        state_significand = Cat(state.fraction, C(1, 1))
        state_wide = Cat(C(0, self._sum_bits - SIGNIFICAND_BITS), state_significand)
        m.d.comb += [
            ahead.eq(state.exponent - addend.exponent),
            beyond.eq(state.exponent + ~addend.exponent),
            state_zero.eq(state.exponent == ZERO_EXPONENT),
        ]
        state_larger, zero_1 = Signal(), Signal()
        gap_ahead, gap_beyond = Signal(GAP_BITS), Signal(GAP_BITS)
        state_1, addend_1 = Signal(SIGNIFICAND_BITS), Signal(self._sum_bits)
        state_sign, addend_sign = Signal(), Signal()
        state_exponent, addend_exponent = Signal.like(state.exponent), Signal.like(addend.exponent)
        distance = Signal.like(self.distance)
        m.d.sync += [
            state_larger.eq(~state_zero & (addend.zero | ~beyond[-1] | (~ahead[-1] & (state_wide >= addend.significand)))),
            gap_ahead.eq(saturated(ahead)),
            gap_beyond.eq(saturated(~beyond)),
            zero_1.eq(state_zero),
            state_1.eq(state_significand),
            addend_1.eq(addend.significand),
            state_sign.eq(state.sign),
            addend_sign.eq(addend.sign),
            state_exponent.eq(state.exponent),
            addend_exponent.eq(addend.exponent),
            distance.eq(self.distance),
        ]

        # Stage 2: align the smaller one.
        smaller = Signal(frame_bits)
        state_framed = Cat(C(0, frame_bits - SIGNIFICAND_BITS), state_1)
        m.d.comb += smaller.eq(Mux(state_larger, addend_1, Mux(zero_1, 0, state_framed)))
        kept, lost = shift_right_sticky(m, smaller, Mux(state_larger, gap_ahead, gap_beyond))

        larger_2, smaller_2 = Signal(frame_bits), Signal(frame_bits)
        negative_2, subtract = Signal(), Signal()
        exponent_2 = Signal(signed(exponent_bits))
        m.d.sync += [
            larger_2.eq(Mux(state_larger, state_framed, addend_1)),
            smaller_2.eq(kept | lost),
            negative_2.eq(Mux(state_larger, state_sign, addend_sign)),
            subtract.eq(state_sign ^ addend_sign),
            # One more than the larger one's exponent: the frame of the sum has a carry bit on top.
            exponent_2.eq(Mux(state_larger, state_exponent, addend_exponent) + 1 - distance),
        ]

        # Stage 3: add. The larger one is on the left, so the sum is never negative.
        total = Signal(frame_bits + 1)
        m.d.comb += total.eq(larger_2 + (Cat(smaller_2, C(0, 1)) ^ subtract.replicate(len(total))) + subtract)
        count, zero = count_leading_zeros(m, total)
        total_3 = Signal.like(total)
        shift = Signal.like(count)
        negative_3, zero_3 = Signal(), Signal()
        exponent_3 = Signal.like(exponent_2)
        m.d.sync += [
            total_3.eq(total),
            shift.eq(count),
            negative_3.eq(negative_2),
            zero_3.eq(zero),
            exponent_3.eq(exponent_2),
        ]

        # Stage 4: leading one to the top.
        shifted = shift_left(m, total_3, shift)
        dropped = len(shifted) - SIGNIFICAND_BITS
        fraction_4 = Signal(unsigned(FRACTION_BITS))
        exponent_4 = Signal.like(exponent_3)
        negative_4, zero_4, up = Signal(), Signal(), Signal()
        m.d.sync += [
            fraction_4.eq(shifted[dropped:-1]),
            up.eq(shifted[dropped - 1] & (shifted[dropped] | shifted[: dropped - 1].any())),
            exponent_4.eq(exponent_3 - shift),
            negative_4.eq(negative_3),
            zero_4.eq(zero_3),
        ]

        # Behind the last register: round. A carry out of the fraction leaves it zero and goes on into the exponent.
        rounded = Signal(FRACTION_BITS + exponent_bits)
        m.d.comb += rounded.eq(Cat(fraction_4, exponent_4) + up)
        exponent = rounded[FRACTION_BITS:].as_signed()
        m.d.comb += [
            self.result.fraction.eq(rounded[:FRACTION_BITS]),
            self.result.exponent.eq(Mux(zero_4 | (exponent < ZERO_EXPONENT), ZERO_EXPONENT, exponent)),
            self.result.sign.eq(negative_4),
        ]
        return m

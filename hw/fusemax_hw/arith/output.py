"""Output: numerator times reciprocal, rounded once."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from fusemax.arith.reciprocal import RECIPROCAL
from fusemax.arith.state import FRACTION_BITS, ZERO_EXPONENT

from ..words import state_float
from .reciprocal import reciprocal_word

__all__ = ["Output"]

#: The multiplication is four products of at most 18 × 18 bits.
LOW_BITS = 18
#: Largest biased exponent of a finite result.
MAX_EXPONENT = 254


class Output(wiring.Component):
    """Numerator · reciprocal as float32 or bfloat16, rounded once to nearest even.

    Model: :func:`fusemax.arith.output.multiply_reciprocal`.

    One a cycle; result after :attr:`latency` cycles.

    Members
    -------
    numerator : In(state_float())
    reciprocal : In(reciprocal_word())
    float32 : In(1)
        Format of this result.
    result : Out(32)
        float32 bits, or bfloat16 bits and 16 zeros above.
    """

    #: Register stages: operands; four products; their sum; rounding position; round; range.
    latency = 6

    numerator: In(state_float())
    reciprocal: In(reciprocal_word())
    float32: In(1)
    result: Out(32)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product_bits = FRACTION_BITS + 1 + RECIPROCAL.BITS

        # Stage 1: operands, which come from far: nothing but the multiplication is done in its cycle.
        numerator, reciprocal = Signal(state_float()), Signal(reciprocal_word())
        float32_1 = Signal()
        m.d.sync += [numerator.eq(self.numerator), reciprocal.eq(self.reciprocal), float32_1.eq(self.float32)]

        # Stage 2: products.
        significand = Cat(numerator.fraction, C(1, 1))
        a_low, a_high = significand[:LOW_BITS], significand[LOW_BITS:]
        b_low, b_high = reciprocal.significand[:LOW_BITS], reciprocal.significand[LOW_BITS:]
        low = Signal(2 * LOW_BITS)
        high = Signal(product_bits - len(low))
        cross, cross_back = Signal(LOW_BITS + len(b_high)), Signal(LOW_BITS + len(a_high))
        exponent_2 = Signal(signed(12))
        sign_2, zero_2, float32_2 = Signal(), Signal(), Signal()
        m.d.sync += [
            low.eq(a_low * b_low),
            high.eq(a_high * b_high),
            cross.eq(a_low * b_high),
            cross_back.eq(a_high * b_low),
            exponent_2.eq(numerator.exponent - reciprocal.exponent),
            zero_2.eq((numerator.exponent == ZERO_EXPONENT) | reciprocal.zero),
            sign_2.eq(numerator.sign),
            float32_2.eq(float32_1),
        ]

        # Stage 3: their sum, leading one on top or one below. The two outer products do not overlap.
        product = Signal(product_bits)
        exponent_3 = Signal.like(exponent_2)
        sign_3, zero_3, float32_3 = Signal(), Signal(), Signal()
        m.d.sync += [
            product.eq(Cat(low, high) + ((cross + cross_back) << LOW_BITS)),
            exponent_3.eq(exponent_2 + (127 - 1)),
            sign_3.eq(sign_2),
            zero_3.eq(zero_2),
            float32_3.eq(float32_2),
        ]

        # Stage 4: leading one to the top; does this format's last place go up?
        upper = product[-1]
        normal = Mux(upper, product, product << 1)[:product_bits]

        def rounds_up(dropped: int):
            return normal[dropped - 1] & (normal[dropped] | normal[: dropped - 1].any())

        dropped = product_bits - 1 - FRACTION_BITS
        fraction_4 = Signal(FRACTION_BITS)
        exponent_4 = Signal.like(exponent_2)
        up, up_bf16 = Signal(), Signal()
        sign_4, zero_4, float32_4 = Signal(), Signal(), Signal()
        m.d.sync += [
            fraction_4.eq(normal[dropped:-1]),
            exponent_4.eq(exponent_3 + upper),
            up.eq(float32_3 & rounds_up(dropped)),
            up_bf16.eq(~float32_3 & rounds_up(dropped + 16)),
            sign_4.eq(sign_3),
            zero_4.eq(zero_3),
            float32_4.eq(float32_3),
        ]

        # Stage 5: round. A carry out of the fraction leaves it zero and goes on into the exponent.
        rounded = Signal(FRACTION_BITS + len(exponent_4))
        sign_5, zero_5, float32_5 = Signal(), Signal(), Signal()
        m.d.sync += [
            rounded.eq(Cat(fraction_4, exponent_4) + Cat(up, C(0, 15), up_bf16)),
            sign_5.eq(sign_4),
            zero_5.eq(zero_4),
            float32_5.eq(float32_4),
        ]

        # Stage 6: is it within the format's range?
        biased = rounded[FRACTION_BITS:].as_signed()
        finite = Cat(rounded[: FRACTION_BITS + 8], sign_5)
        infinity = Cat(C(0, FRACTION_BITS), C(0xFF, 8), sign_5)
        word = Mux(zero_5 | (biased < 1), 0, Mux(biased > MAX_EXPONENT, infinity, finite))
        m.d.sync += self.result.eq(Mux(float32_5, word, word >> 16))
        return m

"""Scaling of queries while they are loaded."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from fusemax.arith.query_scale import MAX_EXPONENT, OPERAND_BITS
from fusemax.spec import Config

from ..words import north_bus

__all__ = ["QueryScale"]

BF16 = data.StructLayout({"mantissa": 7, "exponent": 8, "sign": 1})
FLOAT32 = data.StructLayout({"mantissa": 23, "exponent": 8, "sign": 1})
#: Bits of a result's magnitude.
MAGNITUDE_BITS = OPERAND_BITS - 1


class QueryScale(wiring.Component):
    """bfloat16 query times float32 scale, rounded to nearest even to 17 bits.

    Model: :func:`fusemax.arith.query_scale.scale_query`.

    One a cycle; result after :attr:`latency` cycles.

    Parameters
    ----------
    config : Config

    Members
    -------
    query : In(16)
        bfloat16 bits.
    scale : In(32)
        float32 bits of the factor; sampled with the query.
    scaled : Out(north_bus(config))
        Operand and exponent word.
    overflow : Out(1)
        The product's exponent was above the range.
    nonfinite : Out(1)
        The query is an infinity or a NaN; the result is that of an ordinary exponent 255.
    """

    #: Register stages: operands; product; round; range and sign.
    latency = 4

    def __init__(self, config: Config):
        self._config = config
        super().__init__(
            {
                "query": In(16),
                "scale": In(32),
                "scaled": Out(north_bus(config)),
                "overflow": Out(1),
                "nonfinite": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        query, scale = data.View(BF16, self.query), data.View(FLOAT32, self.scale)

        # Stage 1: operands.
        sig, scale_sig = Signal(8), Signal(24)
        exponent = Signal(signed(10))
        negative, zero, nonfinite = Signal(), Signal(), Signal()
        m.d.sync += [
            sig.eq(Cat(query.mantissa, C(1, 1))),
            scale_sig.eq(Cat(scale.mantissa, C(1, 1))),
            exponent.eq(query.exponent + scale.exponent),
            negative.eq(query.sign ^ scale.sign),
            zero.eq((query.exponent == 0) | (scale.exponent == 0)),
            nonfinite.eq(query.exponent == 0xFF),
        ]

        # Stage 2: product, leading one on top or one below.
        product = Signal(len(sig) + len(scale_sig))
        exponent_2 = Signal(signed(10))
        negative_2, zero_2, nonfinite_2 = Signal(), Signal(), Signal()
        m.d.sync += [
            product.eq(sig * scale_sig),
            exponent_2.eq(exponent - 127),
            negative_2.eq(negative),
            zero_2.eq(zero),
            nonfinite_2.eq(nonfinite),
        ]

        # Stage 3: round.
        upper = product[-1]
        normal = Mux(upper, product, product << 1)[: len(product)]
        dropped = len(product) - MAGNITUDE_BITS
        up = normal[dropped - 1] & (normal[dropped] | normal[: dropped - 1].any())
        rounded = Signal(MAGNITUDE_BITS + 1)
        exponent_3 = Signal.like(exponent_2)
        negative_3, zero_3, nonfinite_3 = Signal(), Signal(), Signal()
        m.d.sync += [
            rounded.eq(normal[dropped:] + up),
            exponent_3.eq(exponent_2 + upper),
            negative_3.eq(negative_2),
            zero_3.eq(zero_2),
            nonfinite_3.eq(nonfinite_2),
        ]

        # Stage 4: range and sign. A carry leaves the rounded bits zero.
        carry = rounded[-1]
        magnitude = rounded[:-1] | Cat(C(0, MAGNITUDE_BITS - 1), carry)
        biased = exponent_3 + carry
        nothing = zero_3 | (biased <= 0)
        above = ~nothing & (biased > MAX_EXPONENT)
        result_exponent = Mux(nothing, 0, Mux(above, MAX_EXPONENT, biased[:8]))
        m.d.sync += [
            self.scaled.operand.eq(Mux(nothing, 0, Mux(negative_3, -magnitude, magnitude))),
            self.scaled.exponent.eq(self._config.query_exponent_bias - result_exponent),
            self.overflow.eq(above),
            self.nonfinite.eq(nonfinite_3),
        ]
        return m

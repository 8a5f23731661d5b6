"""Reciprocal of a denominator's significand."""

from amaranth.hdl import Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from fusemax.arith.reciprocal import RECIPROCAL
from fusemax.arith.state import ZERO_EXPONENT

from ..words import state_float

__all__ = ["Reciprocal", "one", "reciprocal_word"]


def reciprocal_word() -> data.StructLayout:
    """Reciprocal significand · 2^(-24 - exponent) of a positive denominator."""
    return data.StructLayout(
        {
            "significand": unsigned(RECIPROCAL.BITS),  #: 2^23 to 2^24 - 1; means nothing for zero
            "exponent": signed(10),  #: the denominator's
            "zero": 1,  #: the denominator is zero
        }
    )


def one() -> data.Const:
    """The reciprocal of 1."""
    return reciprocal_word().const({"significand": 1 << RECIPROCAL.BITS - 1, "exponent": -1, "zero": 0})


class Reciprocal(wiring.Component):
    """Quadratic approximation of 1/m.

    Model, steps and error: :class:`fusemax.arith.reciprocal.Reciprocal`.

    One a cycle; result after :attr:`latency` cycles.

    Members
    -------
    denominator : In(state_float())
        Its sign is ignored.
    reciprocal : Out(reciprocal_word())
    """

    #: Register stages: operand; tables; first product; slope; second product; result.
    latency = 6

    denominator: In(state_float())
    reciprocal: Out(reciprocal_word())

    def elaborate(self, platform: object) -> Module:
        m = Module()
        scheme = RECIPROCAL

        # Stage 1: operand.
        fraction = Signal.like(self.denominator.fraction)
        m.d.sync += fraction.eq(self.denominator.fraction)

        # Stage 2: tables.
        coefficients = data.StructLayout(
            {"c0": unsigned(scheme.C0_BITS), "c1": unsigned(scheme.C1_BITS), "c2": unsigned(scheme.C2_BITS)}
        )
        m.submodules.tables = tables = memory.Memory(
            shape=coefficients,
            depth=1 << scheme.INDEX_BITS,
            init=[
                coefficients.const({"c0": c0, "c1": c1, "c2": c2})
                for c0, c1, c2 in zip(scheme.c0, scheme.c1, scheme.c2, strict=True)
            ],
        )
        read = tables.read_port()
        offset = Signal(signed(scheme.OFFSET_BITS))
        m.d.comb += read.addr.eq(fraction[scheme.OFFSET_BITS :])
        m.d.sync += offset.eq(Cat(fraction[: scheme.OFFSET_BITS - 1], ~fraction[scheme.OFFSET_BITS - 1]))

        # Stage 3: c2 · short.
        short = (offset >> scheme.SHORT_DROP).as_signed()
        bend = Signal(signed(scheme.C2_BITS + len(short)))
        c0_3, c1_3 = Signal(scheme.C0_BITS), Signal(scheme.C1_BITS)
        offset_3 = Signal.like(offset)
        m.d.sync += [
            bend.eq(read.data.c2 * short),
            c0_3.eq(read.data.c0),
            c1_3.eq(read.data.c1),
            offset_3.eq(offset),
        ]

        # Stage 4: slope.
        slope = Signal(scheme.C1_BITS)
        c0_4 = Signal.like(c0_3)
        offset_4 = Signal.like(offset)
        m.d.sync += [
            slope.eq(c1_3 - (bend >> scheme.SLOPE_SHIFT)),
            c0_4.eq(c0_3),
            offset_4.eq(offset_3),
        ]

        # Stage 5: d · slope.
        drop = Signal(signed(scheme.OFFSET_BITS + scheme.C1_BITS))
        c0_5 = Signal.like(c0_3)
        m.d.sync += [
            drop.eq(offset_4 * slope),
            c0_5.eq(c0_4),
        ]

        # Stage 6: result.
        result = (c0_5 - (drop >> scheme.PRODUCT_SHIFT)) >> scheme.RESULT_SHIFT
        m.d.sync += self.reciprocal.significand.eq(result[: scheme.BITS])

        # The exponent keeps step.
        exponent = self.denominator.exponent
        for stage in range(1, self.latency):
            delayed = Signal.like(exponent, name=f"exponent_{stage}")
            m.d.sync += delayed.eq(exponent)
            exponent = delayed
        m.d.sync += [
            self.reciprocal.exponent.eq(exponent),
            self.reciprocal.zero.eq(exponent == ZERO_EXPONENT),
        ]
        return m

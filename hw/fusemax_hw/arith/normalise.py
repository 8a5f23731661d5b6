"""Tile sum to floating point."""

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .leading_zeros import count_leading_zeros
from .shift import shift_left

__all__ = ["Normalise", "normalised_sum"]

EXPONENT_BITS = 10


def normalised_sum(sum_bits: int) -> data.StructLayout:
    """A sum as ±significand · 2^(exponent - (sum_bits - 1)); the exponent of zero means nothing."""
    return data.StructLayout(
        {
            "significand": unsigned(sum_bits),  #: leading one on top; 0 for zero
            "exponent": signed(EXPONENT_BITS),
            "sign": 1,  #: 1 if negative
            "zero": 1,
        }
    )


class Normalise(wiring.Component):
    """Sign and magnitude of an integer, shifted left until its leading one is on top.

    Model: :func:`fusemax.arith.state.normalise`.

    One a cycle; result after :attr:`latency` cycles.

    Parameters
    ----------
    sum_bits : int
        Bits of the integer.

    Members
    -------
    value : In(signed(sum_bits))
        The sum.
    unit : In(signed(10))
        The sum's unit is 2^unit; unit + sum_bits - 1 fits ten bits.
    normalised : Out(normalised_sum(sum_bits))
    """

    #: Register stages: sign and magnitude; leading zeros; shift.
    latency = 3

    def __init__(self, sum_bits: int):
        self._sum_bits = sum_bits
        super().__init__(
            {
                "value": In(signed(sum_bits)),
                "unit": In(signed(EXPONENT_BITS)),
                "normalised": Out(normalised_sum(sum_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Stage 1: sign and magnitude.
        negative = Signal()
        magnitude = Signal(self._sum_bits)
        top = Signal(signed(EXPONENT_BITS))  # exponent, were the leading one on top already
        m.d.sync += [
            negative.eq(self.value < 0),
            magnitude.eq(Mux(self.value < 0, -self.value, self.value)),
            top.eq(self.unit + (self._sum_bits - 1)),
        ]

        # Stage 2: leading zeros.
        count, zero = count_leading_zeros(m, magnitude)
        negative_2, zero_2 = Signal(), Signal()
        magnitude_2 = Signal.like(magnitude)
        top_2 = Signal.like(top)
        shift = Signal.like(count)
        m.d.sync += [
            negative_2.eq(negative),
            magnitude_2.eq(magnitude),
            top_2.eq(top),
            shift.eq(count),
            zero_2.eq(zero),
        ]

        # Stage 3: shift.
        m.d.sync += [
            self.normalised.sign.eq(negative_2),
            self.normalised.zero.eq(zero_2),
            self.normalised.exponent.eq(top_2 - shift),
            self.normalised.significand.eq(shift_left(m, magnitude_2, shift)),
        ]
        return m

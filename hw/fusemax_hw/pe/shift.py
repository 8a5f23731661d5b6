"""Right shift onto a fixed-point grid that leaves the rounding to the adder behind it."""

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Value

__all__ = ["Placed", "place_product"]


class Placed(NamedTuple):
    """floor(x) and the carry that makes it floor(x + 1/2)."""

    floor: Value
    carry: Value


def place_product(product: Value, align: int, shift: Value) -> Placed:
    """(product << align) / 2^shift, rounded half up once ``carry`` is added (:func:`fusemax.arith.placement.place`).

    Combinational. ``product`` is signed and ``shift`` unsigned; the floor is ``align`` bits wider than the product.
    """
    half = 1
    shifted = Cat(Const(0, align + half), product).as_signed() >> shift
    return Placed(shifted[half:].as_signed(), shifted[0])

"""Sum of a tile's products down a column: floating point with a coarse exponent, which only visible rows take part in.

The partial sum is an integer and a coarse exponent that counts steps of :data:`STEP` binary places; 0 stands for "nothing
yet", a larger one for a larger unit. The product of a weight mantissa · 2^-w and a value of exponent word y (255 less the
biased exponent) has the exponent a = w + y, and a coarse exponent of its own, ``TOP_COARSE - a // STEP``. Of product and
partial sum the one with the smaller coarse exponent is shifted right to the other's unit: the product rounded half up, the
partial sum rounded down, and to 0 beyond :data:`STEPS` steps. A weight of 0 leaves both as they are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..spec import Config
from .bf16 import BIAS
from .placement import place

__all__ = [
    "COARSE_BITS",
    "NO_COARSE",
    "ONE_EXPONENT",
    "ONE_SIG",
    "STEP",
    "STEPS",
    "STEP_LOG2",
    "TOP_COARSE",
    "ColumnSum",
    "add_product",
    "unit_exponent",
]

#: Binary places of a step of the coarse exponent.
STEP_LOG2 = 3
STEP = 1 << STEP_LOG2
#: Steps by which a partial sum is shifted; beyond them nothing is left of it.
STEPS = 3
#: Bits of a product's exponent a = w + y, 0 to 318.
EXPONENT_BITS = 9
COARSE_BITS = EXPONENT_BITS - STEP_LOG2
#: Coarse exponent of a product with a = 0.
TOP_COARSE = (1 << COARSE_BITS) - 1
#: Coarse exponent of a sum without a product.
NO_COARSE = 0
#: 1.0 as a value: SUM is an SLNV with v = 1.
ONE_SIG = 128
ONE_EXPONENT = 255 - BIAS


class ColumnSum(NamedTuple):
    """value · 2^unit_exponent(coarse)."""

    value: NDArray[np.int64]
    coarse: NDArray[np.int64]


def add_product(
    config: Config, partial: ColumnSum, mantissa: ArrayLike, weight_exponent: ArrayLike, sig: ArrayLike, exponent: ArrayLike
) -> ColumnSum:
    """One SUM or SLNV in one PE; arguments broadcast.

    Parameters
    ----------
    mantissa, weight_exponent
        Weight: 17 bits unsigned or, of LIN, 18 bits two's complement, 0 if it takes no part; w, 0 to 63.
    sig, exponent
        Value: 9 bits two's complement; y, 0 to 255.
    """
    value, coarse = (np.asarray(part, np.int64) for part in partial)
    weight = np.asarray(mantissa, np.int64)
    amount = np.asarray(weight_exponent, np.int64) + np.asarray(exponent, np.int64)
    live = weight != 0
    ahead = TOP_COARSE - (amount >> STEP_LOG2) - coarse
    raises = live & (ahead > 0)
    product = place(
        weight * np.asarray(sig, np.int64), config.product_align, (amount & STEP - 1) + STEP * np.maximum(-ahead, 0)
    )
    steps = np.where(raises, ahead, 0)
    kept = np.where(steps > STEPS, 0, value >> STEP * np.minimum(steps, STEPS))
    return ColumnSum(kept + np.where(live, product, 0), coarse + steps)


def unit_exponent(config: Config, coarse: ArrayLike) -> NDArray[np.int64]:
    """Power of two of a sum's lowest bit."""
    fraction_bits = 16 + 7 + config.product_align
    return 255 - BIAS - fraction_bits - STEP * (TOP_COARSE - np.asarray(coarse, np.int64))

"""Bit-exact operators of the machine on NumPy arrays, one per file; the hardware's arithmetic is tested against them."""

from .bf16 import from_bits, is_nonfinite, to_bits
from .exp2 import Exp2Table, Weight, exp2
from .output import divide, multiply_reciprocal
from .placement import place, wrap
from .query_scale import ScaledQuery, scale_query
from .reciprocal import RECIPROCAL, Reciprocal
from .reference import NewReference, ceil_score, update_reference
from .state import NormalisedSum, StateFloat, accumulate, normalise

__all__ = [
    "RECIPROCAL",
    "Exp2Table",
    "NewReference",
    "NormalisedSum",
    "Reciprocal",
    "ScaledQuery",
    "StateFloat",
    "Weight",
    "accumulate",
    "ceil_score",
    "divide",
    "exp2",
    "from_bits",
    "is_nonfinite",
    "multiply_reciprocal",
    "normalise",
    "place",
    "scale_query",
    "to_bits",
    "update_reference",
    "wrap",
]

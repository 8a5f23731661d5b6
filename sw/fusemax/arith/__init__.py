"""Bit-exact operators of the machine on NumPy arrays, one per file; the hardware's arithmetic is tested against them."""

from .bf16 import from_bits, is_nonfinite, to_bits
from .exp2 import Exp2Table, Weight, exp2
from .linear import LinearWeight, linear_scale_log2, linear_weight
from .output import divide, multiply_reciprocal, undivided
from .placement import place, wrap
from .query_scale import ScaledQuery, scale_query
from .reciprocal import RECIPROCAL, Reciprocal
from .reference import NewReference, ceil_score, update_reference
from .score_product import Score, add_score, add_shift, set_score, set_shift
from .score_slices import SLICES, score_slices, slice_exponent
from .state import NormalisedSum, StateFloat, accumulate, normalise

__all__ = [
    "RECIPROCAL",
    "SLICES",
    "Exp2Table",
    "LinearWeight",
    "NewReference",
    "NormalisedSum",
    "Reciprocal",
    "ScaledQuery",
    "Score",
    "StateFloat",
    "Weight",
    "accumulate",
    "add_score",
    "add_shift",
    "ceil_score",
    "divide",
    "exp2",
    "from_bits",
    "is_nonfinite",
    "linear_scale_log2",
    "linear_weight",
    "multiply_reciprocal",
    "normalise",
    "place",
    "scale_query",
    "score_slices",
    "set_score",
    "set_shift",
    "slice_exponent",
    "to_bits",
    "undivided",
    "update_reference",
    "wrap",
]

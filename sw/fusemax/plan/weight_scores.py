"""Scores of which the array makes given weights: logarithms that take its table into account."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arith.exp2 import Exp2Table
from ..spec import Config
from .parts import bfloat16

__all__ = ["NO_WEIGHT", "score_parts", "weight_scores"]

#: Score of a weight of zero: far below every other, and far above where scores end.
NO_WEIGHT = -8192.0


def weight_scores(config: Config, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Find scores to base 2 for weights from 0 to 1.

    EXP is up to 5.8e-5 off 2^S. Its error at a score near the logarithm is known to the host, which takes it off: what is left
    is the rounding of the table's mantissas, 1e-5 at most, and that of the scores.

    Returns
    -------
    float64 array
        Of the shape of ``weights``, 0 at most; :data:`NO_WEIGHT` for a weight of 0.
    """
    table, unit = Exp2Table(config.score_frac_bits), 1 << config.score_frac_bits
    with np.errstate(divide="ignore"):
        logarithms = np.maximum(np.log2(weights), NO_WEIGHT)
    fraction = np.rint(logarithms * unit).astype(np.int64) & unit - 1
    # 2^fraction as it ought to be, by as it is.
    missing = fraction / unit - np.log2(table.model(fraction) / 2.0**16)
    return np.where(weights > 0, np.minimum(logarithms + missing, 0), NO_WEIGHT)


def score_parts(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two bfloat16 numbers for each score, in a last axis: their sum is within 2^-17 of it."""
    large = bfloat16(scores)
    return np.stack([large, bfloat16(scores - large)], axis=-1)

"""What every micro operation computes, bit for bit, for all keys and queries of a block at once.

Arrays are (keys, queries); keys are the rows of all tiles that follow each other. The operators are those of
:mod:`fusemax.arith`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arith.column_sum import NO_COARSE, ColumnSum, add_product, unit_exponent
from ..arith.exp2 import exp2
from ..arith.linear import linear_weight
from ..arith.score_product import Score, add_score, add_shift, set_score, set_shift
from ..arith.score_slices import score_slices, slice_exponent
from ..compiler.micro import Constant
from ..spec import Config

__all__ = ["Integers", "Truths", "Weights", "add", "exponential", "linear", "set_constant", "sum_scores"]

Integers = NDArray[np.int64]
Truths = NDArray[np.bool_]


class Weights(NamedTuple):
    """Weights in a hold register: mantissa · 2^(-16 - exponent)."""

    mantissa: Integers
    exponent: Integers

    def hide(self, visible: Truths | None) -> Weights:
        """Weights of 0 where a key is not seen."""
        return self if visible is None else Weights(np.where(visible, self.mantissa, 0), self.exponent)


def exponential(config: Config, score: Integers, reference: Integers | int, absolute: bool) -> Weights:
    """EXP."""
    return Weights(*exp2(config, score, reference, absolute))


def linear(config: Config, score: Integers, rectified: bool) -> tuple[Weights, Truths]:
    """LIN, and where a score was too large."""
    weight = linear_weight(config, score, rectified)
    return Weights(weight.mantissa, np.zeros_like(weight.mantissa)), weight.overflow


def set_constant(config: Config, weights: Weights, constant: Constant) -> Integers:
    """SET: scores that are weights times a constant."""
    return set_score(config, *weights, constant.sig, set_shift(config, constant.shift))


def add(config: Config, score: Score, weights: Weights | None, constant: Constant, clipped: bool) -> Score:
    """ADD; a constant of 0 needs no weights."""
    if weights is None:
        weights = Weights(np.zeros_like(score.value), np.zeros_like(score.value))
    return add_score(config, score, *weights, constant.sig, add_shift(config, constant.shift), clipped)


def sum_scores(config: Config, weights: Weights, score: Integers, index: int) -> NDArray[np.float64]:
    """ENT: sums of every tile of weights times a slice of the scores, (tiles, queries)."""
    rows = config.rows
    keys, queries = score.shape
    padding = ((0, -keys % rows), (0, 0))
    mantissa, exponent, value = (
        np.pad(array, padding).reshape(-1, rows, queries)
        for array in (weights.mantissa, weights.exponent, score_slices(config, score)[index])
    )
    zero = np.zeros(mantissa[:, 0].shape, np.int64)
    total = ColumnSum(zero, zero + NO_COARSE)
    word = slice_exponent(config, index)
    for row in range(rows):
        total = add_product(config, total, mantissa[:, row], exponent[:, row], value[:, row], word)
    return np.ldexp(total.value.astype(np.float64), unit_exponent(config, total.coarse))

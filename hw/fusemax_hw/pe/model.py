"""What a PE computes, word by word, in plain integers."""

from typing import NamedTuple

import numpy as np

from fusemax.arith.column_sum import NO_COARSE, ONE_EXPONENT, ONE_SIG, ColumnSum, add_product
from fusemax.arith.exp2 import exp2
from fusemax.arith.linear import linear_weight
from fusemax.arith.placement import place, wrap
from fusemax.arith.score_product import Score, add_score, set_score
from fusemax.arith.score_slices import score_slices
from fusemax.spec import NORTH_BITS, Config, Op

__all__ = ["Partial", "PeModel", "PeWord", "rows_seen"]


class PeWord(NamedTuple):
    """One word as a PE gets it: west bus and north bus."""

    op: Op = Op.NOP
    first: bool = False
    max: bool = False
    mask: bool = False
    hold: int = 0
    hold_max: int = 0
    sig: int = 0
    exponent: int = 0
    operand: int = 0
    query_exponent: int = 0


class Partial(NamedTuple):
    """Partial bus; ``value`` of a running maximum is its complement."""

    value: int = 0
    valid: bool = False
    overflow: bool = False
    #: Ahead of the value on the bus (``Timing.coarse_lead``).
    coarse: int = NO_COARSE


def rows_seen(config: Config, lo: int, hi: int) -> dict[str, int]:
    """What a north feeder puts on its bus for rows ``lo <= row < hi``: fields of a :class:`PeWord`."""
    if config.rows > NORTH_BITS:
        return {"operand": hi << 9 | lo}
    bits = ((1 << hi) - 1) & -(1 << lo) if lo < hi else 0
    exponent = bits >> 18
    return {"operand": bits & 0x3FFFF, "query_exponent": exponent - (exponent >> 8 << 9)}


class PeModel:
    """A PE without its pipeline: right for every sequence of words that keeps the minimum distances.

    Parameters
    ----------
    config : Config
        Machine.
    """

    def __init__(self, config: Config):
        self.config = config
        self.score = 0
        self.visible = False
        self.overflow = False
        #: Scores as (score, visible), weights as (mantissa, exponent).
        self.holds: list[tuple[int, int]] = [(0, 0)] * config.holds
        self.partial_out = Partial()

    def _place(self, product: int, shift: int) -> int:
        return int(place(product, self.config.product_align, shift))

    def _keep(self, word: PeWord, low: int, high: int) -> None:
        """Write what EXP, LIN or SET has made into the hold register that it is for."""
        self.holds[word.hold_max if self.config.linear else word.hold] = (low, high)

    def step(self, word: PeWord, partial: Partial) -> Partial:
        """Execute ``word``; returns the partial value that is on the bus from then on."""
        config = self.config
        if word.max:
            self.holds[word.hold_max] = (self.score, self.visible)
            value = partial.value
            if self.visible and (not partial.valid or self.score > ~partial.value):
                value = ~self.score
            self.partial_out = Partial(
                value, partial.valid or self.visible, partial.overflow or (self.overflow and self.visible)
            )
        match word.op:
            case Op.QK:
                shift = word.query_exponent + word.exponent
                total = self._place(word.operand * word.sig, shift) + (0 if word.first else self.score)
                self.score = int(wrap(total, config.score_bits))
                self.overflow = self.score != total or shift < 0 or (self.overflow and not word.first)
            case Op.EXP:
                score, visible = self.holds[word.hold]
                weight = exp2(config, score, word.operand - 1, word.first)
                self._keep(word, int(weight.mantissa) if visible else 0, int(weight.exponent))
            case Op.LIN:
                score, visible = self.holds[word.hold]
                linear = linear_weight(config, score, word.first)
                self._keep(word, int(linear.mantissa) if visible else 0, word.operand + ONE_EXPONENT)
                self.partial_out = Partial(overflow=partial.overflow or bool(linear.overflow and visible))
            case Op.SET:
                self._keep(word, int(set_score(config, *self.holds[word.hold], word.sig, word.exponent)), self.visible)
            case Op.ADD:
                before = Score(np.int64(self.score), np.bool_(self.overflow))
                after = add_score(config, before, *self.holds[word.hold], word.sig, word.exponent, word.first)
                self.score, self.overflow = int(after.value), bool(after.overflow)
            case Op.SUM | Op.SLNV | Op.ENT:
                value = (word.sig, word.exponent)
                if word.op == Op.SUM:
                    value = (ONE_SIG, ONE_EXPONENT)
                elif word.op == Op.ENT:
                    # Its exponent tells the slice, as in the PE; the significand is 0.
                    index = 2 if word.exponent & 128 else word.exponent >> 3 & 1
                    value = (int(score_slices(config, self.score)[index]), word.exponent)
                total = add_product(config, ColumnSum(partial.value, partial.coarse), *self.holds[word.hold], *value)
                self.partial_out = Partial(value=int(wrap(total.value, config.sum_bits)), coarse=int(total.coarse))
        if word.mask:
            if config.rows <= NORTH_BITS:
                self.visible = bool((word.operand & 0x3FFFF | word.query_exponent << 18) >> word.exponent & 1)
            else:
                self.visible = word.operand & 0x1FF <= word.exponent < word.operand >> 9 & 0x1FF
        return self.partial_out

"""What a lane computes, word by word, of the models of its operators."""

import dataclasses

import ml_dtypes
import numpy as np

from fusemax.arith import state
from fusemax.arith.column_sum import unit_exponent
from fusemax.arith.output import divide
from fusemax.arith.reference import update_reference

__all__ = ["LaneModel", "Tile", "writes_word"]


@dataclasses.dataclass
class Tile:
    """One query tile's visit to one key tile, as the lane sees it."""

    query: int
    first: bool
    last: bool
    f: int
    float32: bool
    base: int  #: state address
    state_out: bool
    raw_out: bool
    outputs: list[int]  #: output buffer address of reference and denominator, if they go out, and per result


def one(values):
    return int(np.asarray(values))


def to_float32(value, bfloat16=False):
    """Bits of a state float rounded to float32 or bfloat16 (exact rationals, ml_dtypes)."""
    exact = float(value.significand) * 2.0 ** (float(value.exponent) - 23) * (-1) ** int(value.sign)
    exact = exact if value.significand else 0.0
    tiny = abs(exact) < 2.0**-126
    rounded = np.float32(0.0 if tiny else exact)
    if bfloat16:
        return int(rounded.astype(ml_dtypes.bfloat16).view(np.uint16))
    return int(rounded.view(np.uint32))


class LaneModel:
    """What the lane holds, word by word."""

    def __init__(self, config):
        self.config = config
        self.references = {}
        self.states = {}
        self.distances = {}
        self.denominators = {}
        self.latest = {}
        self.pending = [0] * config.beat_elements

    def max(self, tile, hold, value, valid):
        """The new reference, and whether there is one."""
        old, old_valid = self.references.get(tile.query, (0, False))
        new = update_reference(self.config, old, old_valid and not tile.first, value, valid)
        self.references[tile.query] = one(new.reference), bool(new.valid)
        self.distances[hold] = one(new.distance)
        self.latest[hold] = one(new.reference) if new.valid else 0
        return self.references[tile.query]

    def add(self, tile, step, hold, value, coarse):
        """The bus word that is complete with this result, or None."""
        address = tile.base + (step - 1 if step else tile.f)
        unit = unit_exponent(self.config, coarse)
        before = state.zeros(()) if tile.first else self.states[address]
        after = state.accumulate(before, self.distances[hold], value, unit, self.config.sum_bits)
        self.states[address] = after
        if not tile.last:
            return None
        if step == 0:
            self.denominators[hold] = after
            return one(to_float32(after)) << 32 | self.latest[hold] & 0xFFFFFFFF if tile.state_out else None
        if tile.raw_out:
            result = one(to_float32(after)) if tile.float32 else one(to_float32(after, bfloat16=True))
        else:
            result = one(divide(after, self.denominators[hold], tile.float32))
        element = (step - 1) % (self.config.beat_elements // (2 if tile.float32 else 1))
        if tile.float32:
            self.pending[2 * element : 2 * element + 2] = result & 0xFFFF, result >> 16
        else:
            self.pending[element] = result
        if not writes_word(tile, step):
            return None
        word = sum(value << 16 * place for place, value in enumerate(self.pending))
        self.pending = [0] * self.config.beat_elements
        return word


def writes_word(tile, step):
    """The bus word is complete: the row ends, or the next result has another address."""
    return tile.state_out if step == 0 else step == tile.f or tile.outputs[step] != tile.outputs[step + 1]

"""What the machine computes for a head of attention, bit for bit, in vectorised NumPy.

The operators of ``fusemax.arith`` are written in integers; here the three inner loops work on float64 holding the same
integers, which is as exact and several times faster:

* **Multiply and place.** A product has at most 26 significant bits and is scaled by a power of two, so float64 holds
  x = product · 2^(align - shift) exactly. floor(x + 1/2) is then exact too: let 2^k ≤ abs(x) < 2^(k+1). For k ≥ -27, x + 1/2
  is a multiple of 2^(k-25) (or of 1/2) below 2^(max(k, 0) + 2) and fits 53 bits. For k < -27, x + 1/2 may be rounded, but stays
  between 1/4 and 3/4, and the floor is 0. Shifts above 63 leave 0 either way.
* **Sums down a column** (:mod:`fusemax.arith.column_sum`) are taken row by row, for many tiles, features and queries at
  once. The partial sum, an integer below 2^43, has 3·2^51 added to it, so that its float64 neighbours are 1 apart: adding
  x to it rounds x to an integer. Ties, which the machine rounds up, would go to even: so the values are moved by 2^-50 of
  themselves, upwards, which moves a product of 26 bits off a tie and over nothing else. Few products have a larger coarse
  exponent than the partial sum before them; those sums are shifted one by one.
* **State update.** State, rescaled state and tile sum are float64 numbers far from either end of its exponent range. Their sum
  is rounded to 53 bits first; if that was not exact, the lowest bit is made odd in the direction of the lost part (rounding
  to odd), after which rounding to 24 bits gives what the infinitely precise sum would give.

Masked weights are 0 and have an exponent that raises no sum's, so that a mask changes nothing but the weights and the
maximum.

Time goes into four passes (multiply, add 1/2, floor, accumulate) over P·M·E numbers and as much over P·M·(F + 1), in blocks
that stay in the cache; with few rows per tile the state update, some twelve passes over P·(F + 1) numbers per key tile, takes
its share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arith import bf16
from ..arith.column_sum import EXPONENT_BITS, ONE_EXPONENT, ONE_SIG, STEP, STEP_LOG2, STEPS, TOP_COARSE, unit_exponent
from ..arith.exp2 import MAX_WEIGHT_EXPONENT, Exp2Table
from ..arith.output import divide, state_to_float32, undivided
from ..arith.placement import place, wrap
from ..arith.query_scale import ScaledQuery, scale_query
from ..arith.reference import MAX_DISTANCE, ceil_score
from ..arith.state import FRACTION_BITS, ZERO_EXPONENT, StateFloat
from ..spec import Config

__all__ = [
    "NO_REFERENCE",
    "NO_WEIGHT",
    "QUERY_BLOCK",
    "Head",
    "Keys",
    "Result",
    "Segment",
    "SegmentBias",
    "Values",
    "add_to_state",
    "attention",
    "attention_head",
    "finish_head",
    "from_float64",
    "running_references",
    "smallest_state",
]

#: Queries worked on together.
QUERY_BLOCK = 512
#: Numbers in a block of the inner loops: two such blocks of float64 fit a second-level cache.
BLOCK_NUMBERS = 1 << 15
#: Reference of a query that has not seen a key, further below all others than the largest rescale distance.
NO_REFERENCE = -(1 << 40)
#: Exponent of a weight of 0: behind every coarse exponent.
NO_WEIGHT = 1 << EXPONENT_BITS
#: 2^-w.
_POWERS = np.append(np.ldexp(1.0, -np.arange(MAX_WEIGHT_EXPONENT + 1)), np.zeros(NO_WEIGHT - MAX_WEIGHT_EXPONENT))
#: Smallest coarse exponent of a sum that is not zero.
LEAST_COARSE = TOP_COARSE - (MAX_WEIGHT_EXPONENT + 255 >> STEP_LOG2)
#: Added to partial sums, so that float64 rounds them to integers.
INTEGERS = 3 * 2.0**51
#: Bias of float64's exponents, and fraction bits below them.
FLOAT64_BIAS, FLOAT64_FRACTION = 1023, 52
#: Moves a product of 26 bits off a tie.
OFF_TIE = 2.0**-50


class SegmentBias(NamedTuple):
    """Biases of a segment's scores, (P, M), and whether the loader has flagged an overflow or a number that is not finite."""

    operands: ScaledQuery
    overflow: bool
    nonfinite: bool


class Segment(NamedTuple):
    """Keys and values that lie together and are cut into tiles of ``rows`` from their own start.

    Members
    -------
    k, v
        bfloat16 bits, (M, E) and (M, F).
    lo, hi
        Query row r sees keys ``lo[r] <= j < hi[r]`` of this segment; (P,) integers. None: all keys.
    bits
        And of these only those whose bit is set, (P, M). None: all.
    bias
        Added to the scores. None: nothing.
    """

    k: NDArray[np.uint16]
    v: NDArray[np.uint16]
    lo: NDArray[np.int64] | None = None
    hi: NDArray[np.int64] | None = None
    bits: NDArray[np.bool_] | None = None
    bias: SegmentBias | None = None

    def visible(self, rows: slice) -> NDArray[np.bool_] | None:
        """Which keys the query rows see, (M, P); None if all see all."""
        keys = np.arange(len(self.k))[:, None]
        seen = None
        if self.lo is not None and (self.lo[rows] > 0).any():
            seen = keys >= self.lo[rows]
        if self.hi is not None and (self.hi[rows] < len(self.k)).any():
            below = keys < self.hi[rows]
            seen = below if seen is None else seen & below
        if self.bits is not None:
            bits = self.bits[rows].T
            seen = bits if seen is None else seen & bits
        return seen

    def scores(
        self, keys: Keys, scaled: ScaledQuery, rows: slice, visible: NDArray[np.bool_] | None
    ) -> tuple[NDArray[np.float64], bool]:
        """Scores of query rows (:meth:`Keys.scores`)."""
        if self.bias is None:
            return keys.scores(scaled, visible)
        return keys.scores(scaled, visible, self.bias.operands.take(rows).transposed)


@dataclass(frozen=True)
class Head:
    """State of the queries of a head when all keys have passed, and the two sticky flags of STATUS.

    Members
    -------
    numerator, denominator
        RNV, (F, P), and RD, (P,).
    reference
        RM, (P,); 0 if the query has seen no key.
    overflow
        A visible score or a scaled query left its range.
    nonfinite
        An infinity or a NaN was among the inputs.
    """

    numerator: StateFloat
    denominator: StateFloat
    reference: NDArray[np.int64]
    overflow: bool
    nonfinite: bool

    def output(self, float32: bool, raw: bool = False) -> NDArray[np.uint32 | np.uint16]:
        """Bits of the output rows, (P, F): float32 or bfloat16; with ``raw`` the numerators as they are."""
        if raw:
            return np.ascontiguousarray(undivided(self.numerator, float32).T)
        return np.ascontiguousarray(divide(self.numerator, self.denominator, float32).T)

    def denominator_bits(self) -> NDArray[np.uint32]:
        """float32 bits of RD, (P,)."""
        return state_to_float32(self.denominator)


@dataclass(frozen=True)
class Result:
    """Output bits and the two sticky flags of STATUS."""

    #: (..., P, F), uint32 of float32 or uint16 of bfloat16.
    out_bits: NDArray[np.uint32 | np.uint16]
    #: A visible score or a scaled query left its range.
    overflow: bool
    #: An infinity or a NaN was among the inputs.
    nonfinite: bool


def attention(
    config: Config,
    q: NDArray[np.uint16],
    k: NDArray[np.uint16],
    v: NDArray[np.uint16],
    scale: ArrayLike,
    out_float32: bool,
    lo: ArrayLike | None = None,
    hi: ArrayLike | None = None,
) -> Result:
    """Output of the machine: softmax over the keys of 2^(scale · q · k), times v.

    Parameters
    ----------
    q, k, v
        bfloat16 bits, (..., P, E), (..., M, E), (..., M, F). Leading axes broadcast and are worked on head by head; P, M, E
        and F are at least 1, E and F at most ``config.max_e`` and ``config.max_f``.
    scale
        The factor of every query, a float32 number (softmax scale times log2(e)), or one per query row: (..., P).
    out_float32
        float32 output if true, else bfloat16.
    lo, hi
        Query r sees keys ``lo[r] <= j < hi[r]``: integers, or (..., P). None: from the first, to the last.

    Raises
    ------
    TypeError
        If an array is not of type uint16.
    ValueError
        If a shape does not fit the others or the configuration.
    """
    for name, array in (("q", q), ("k", k), ("v", v)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint16:
            raise TypeError(
                f"{name} must be an array of type uint16 (bfloat16 bits), not {getattr(array, 'dtype', type(array))}"
            )
        if array.ndim < 2 or 0 in array.shape:
            raise ValueError(f"{name} must have at least two axes and no empty one, not shape {array.shape}")
    (queries, e), (keys, f) = q.shape[-2:], v.shape[-2:]
    if k.shape[-2:] != (keys, e):
        raise ValueError(f"k must end in ({keys}, {e}) as q and v do, not {k.shape}")
    if e > config.max_e or f > config.max_f:
        raise ValueError(f"head dims must be at most {config.max_e} (E) and {config.max_f} (F), not {e} and {f}")

    leading = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(array, leading + array.shape[-2:]) for array in (q, k, v))
    scale = np.broadcast_to(np.asarray(scale, np.float32), (*leading, queries))
    lo, hi = (None if edge is None else np.broadcast_to(np.asarray(edge, np.int64), (*leading, queries)) for edge in (lo, hi))
    out = np.empty((*leading, queries, f), np.uint32 if out_float32 else np.uint16)
    overflow = nonfinite = False
    for index in np.ndindex(leading):
        segment = Segment(k[index], v[index], None if lo is None else lo[index], None if hi is None else hi[index])
        head = attention_head(config, q[index], [segment], scale[index])
        out[index] = head.output(out_float32)
        overflow |= head.overflow
        nonfinite |= head.nonfinite
    return Result(out, overflow, nonfinite)


def attention_head(
    config: Config, q: NDArray[np.uint16], segments: Sequence[Segment], scale: NDArray[np.float32] | np.float32
) -> Head:
    """One head: its queries against the segments of its keys, one after the other.

    Query heads that share keys are further rows of ``q``.

    Parameters
    ----------
    q
        bfloat16 bits, (P, E).
    segments
        At least one.
    scale
        float32 factor, of all rows or one per row.
    """
    scale_bits = np.broadcast_to(np.asarray(scale, np.float32), len(q)).view(np.uint32)
    keys = [Keys(config, segment.k) for segment in segments]
    values = [Values(config, segment.v) for segment in segments]
    states, references, overflow = [], [], False
    for start in range(0, len(q), QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        scaled = scale_query(config, q[rows], scale_bits[rows, None])
        overflow |= bool(scaled.overflow.any())
        columns = len(scaled.operand)
        state = np.zeros((values[0].value.shape[-1], columns))
        reference = np.full(columns, NO_REFERENCE)
        smallest = np.full(columns, smallest_state(config))
        for segment, key, value in zip(segments, keys, values, strict=True):
            visible = segment.visible(rows)
            scores, score_overflow = segment.scores(key, scaled, rows, visible)
            overflow |= score_overflow
            weights, exponents, distances, reference = _weights(config, scores, visible, reference)
            smallest -= distances.sum(axis=0)
            value.accumulate(state, weights, exponents, distances, bool((smallest <= ZERO_EXPONENT).any()))
        states.append(from_float64(state))
        references.append(np.where(reference == NO_REFERENCE, 0, reference))
    return finish_head(q, segments, states, references, overflow)


def smallest_state(config: Config) -> int:
    """No state but zero is smaller than 2 to this power, if it has not been rescaled."""
    return int(unit_exponent(config, LEAST_COARSE))


def finish_head(
    q: NDArray[np.uint16],
    segments: Sequence[Segment],
    states: Sequence[StateFloat],
    references: Sequence[NDArray[np.int64]],
    overflow: bool,
) -> Head:
    """Put blocks of queries together: their states (F+1, P), the denominator last, and references."""
    sums = StateFloat(*(np.concatenate(parts, axis=1) for parts in zip(*states, strict=True)))
    nonfinite = any(bool(bf16.is_nonfinite(array).any()) for array in (q, *(x for s in segments for x in (s.k, s.v))))
    biases = [segment.bias for segment in segments if segment.bias is not None]
    nonfinite |= any(bias.nonfinite for bias in biases)
    overflow |= any(bias.overflow for bias in biases)
    return Head(
        StateFloat(*(part[:-1] for part in sums)),
        StateFloat(*(part[-1] for part in sums)),
        np.concatenate(references),
        overflow,
        nonfinite,
    )


class Keys:
    """Keys of a head, ready for scores; arrays are (E, M)."""

    def __init__(self, config: Config, k: NDArray[np.uint16]) -> None:
        self.config = config
        self.sig, exponent = (np.ascontiguousarray(part.T) for part in bf16.unpack(k))
        self.shift = 255 - exponent
        self.value = np.ldexp(self.sig.astype(np.float64), config.product_align - self.shift)

    def scores(
        self, scaled: ScaledQuery, visible: NDArray[np.bool_] | None = None, bias: ScaledQuery | None = None
    ) -> tuple[NDArray[np.float64], bool]:
        """Scores (M, P) as float64 integers, wrapped as the machine wraps them, and whether a visible one overflowed.

        A ``bias`` (M, P) is added behind the products, as the product of a query of its size and a key of 1.
        """
        operand, shift = scaled.operand.T, scaled.exponent_word.T
        query = np.ascontiguousarray(np.ldexp(operand.astype(np.float64), -shift))
        e, keys, queries = len(query), self.sig.shape[1], query.shape[1]
        scores = np.empty((keys, queries))
        step = max(1, BLOCK_NUMBERS // queries)
        buffer = np.empty((min(step, keys), queries))
        largest_query = np.abs(query).max(axis=1)
        added = np.zeros((keys, 1))
        if bias is not None:
            added = np.ldexp(bias.operand.astype(np.float64), self.config.product_align - ONE_EXPONENT - bias.exponent_word)
            added *= ONE_SIG
        overflow = False
        for start in range(0, keys, step):
            block = slice(start, min(start + step, keys))
            key = self.value[:, block, None]
            # A negative shift makes a single product as large as this limit already.
            bound = (largest_query * np.abs(key).max(axis=(1, 2)) + 1).sum() + np.abs(added[block]).max() + 1
            if bound >= 1 << self.config.score_bits - 1:
                block_bias = None if bias is None else bias.take(block)
                scores[block], wrong = self._checked_scores(block, operand, shift, block_bias)
                overflow |= bool((wrong if visible is None else wrong & visible[block]).any())
                continue
            total, placed = scores[block], buffer[: block.stop - block.start]
            _place(key[0], query[0], total)
            for index in range(1, e):
                total += _place(key[index], query[index], placed)
            if bias is not None:
                total += _place(added[block], np.ones(()), placed)
        return scores, overflow

    def _checked_scores(
        self, block: slice, operand: NDArray[np.int64], shift: NDArray[np.int64], bias: ScaledQuery | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Scores of a block in which some sum or shift may leave its range, looking at every step, and which overflowed."""
        total = np.zeros((block.stop - block.start, operand.shape[1]), np.int64)
        overflow = np.zeros(total.shape, np.bool_)
        products = (
            (self.sig[index, block, None] * operand[index], self.shift[index, block, None] + shift[index])
            for index in range(len(operand))
        )
        last = [] if bias is None else [(ONE_SIG * bias.operand, ONE_EXPONENT + bias.exponent_word)]
        for product, amount in chain(products, last):
            total = total + place(product, self.config.product_align, amount)
            wrapped = wrap(total, self.config.score_bits)
            overflow |= (amount < 0) | (wrapped != total)
            total = wrapped
        return total, overflow


def _place(left: NDArray[np.float64], right: NDArray[np.float64], out: NDArray[np.float64]) -> NDArray[np.float64]:
    """Placed products: floor(left · right + 1/2)."""
    np.multiply(left, right, out=out)
    out += 0.5
    return np.floor(out, out=out)


@lru_cache(maxsize=8)
def _mantissas(frac_bits: int) -> NDArray[np.float64]:
    """Mantissa of every fraction."""
    return Exp2Table(frac_bits).model(np.arange(1 << frac_bits)).astype(np.float64)


def running_references(
    config: Config,
    scores: NDArray[np.float64] | NDArray[np.int64],
    visible: NDArray[np.bool_] | None,
    before: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """References after every tile, and rescale distances, both (tiles, P), from scores (M, P).

    ``before`` are the references before the first tile, ``NO_REFERENCE`` where no key was seen.
    """
    keys = len(scores)
    starts = np.arange(0, keys, config.rows)
    if visible is None:
        local = ceil_score(config, np.maximum.reduceat(scores, starts, axis=0))
    else:
        largest = np.maximum.reduceat(np.where(visible, scores, -np.inf), starts, axis=0)
        none = largest == -np.inf
        local = ceil_score(config, np.where(none, 0, largest))
        local[none] = NO_REFERENCE
    reference = np.maximum.accumulate(np.concatenate([before[None], local]), axis=0)
    distances = np.minimum(np.diff(reference, axis=0), MAX_DISTANCE)
    # States are zero then.
    distances[reference[:-1] == NO_REFERENCE] = 0
    return reference[1:], distances


def _weights(
    config: Config, scores: NDArray[np.float64], visible: NDArray[np.bool_] | None, before: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """Weights against the references of their tiles; rescale distances, (tiles, P); last references.

    Weights are mantissa · 2^-w and w, (M, P); the w of a weight of 0 is ``NO_WEIGHT``.

    ``before`` are the references before the first tile.
    """
    reference, distances = running_references(config, scores, visible, before)
    keys = len(scores)
    score = scores.astype(np.int64)
    weights = _mantissas(config.score_frac_bits)[score & (1 << config.score_frac_bits) - 1]
    score >>= config.score_frac_bits
    np.subtract(np.repeat(reference, config.rows, axis=0)[:keys], score, out=score)
    none = score > MAX_WEIGHT_EXPONENT
    if visible is not None:
        # A masked score may be above the reference.
        none |= ~visible
    score[none] = NO_WEIGHT
    weights *= _POWERS[score]
    return weights, score.astype(np.int16), distances, reference[-1]


class Values:
    """Values of a head in their tiles, with a last column of ones for the denominator; arrays are (tiles, rows, F+1).

    With ``signed``, weights may be negative: then not the values are moved off a tie, but the products.
    """

    def __init__(self, config: Config, v: NDArray[np.uint16], *, signed: bool = False) -> None:
        sig, exponent = bf16.unpack(v)
        rows = -len(v) % config.rows
        sig = np.pad(np.pad(sig, ((0, 0), (0, 1)), constant_values=ONE_SIG), ((0, rows), (0, 0)))
        word = np.pad(np.pad(255 - exponent, ((0, 0), (0, 1)), constant_values=ONE_EXPONENT), ((0, rows), (0, 0)))
        shape = -1, config.rows, sig.shape[1]
        # Times 2^-16, since a weight's mantissa is an integer.
        value = np.ldexp(sig.astype(np.float64), 255 - bf16.BIAS - 7 - 16 - word).reshape(shape)
        self.signed = signed
        self.value = value if signed else value + np.abs(value) * OFF_TIE
        #: Exponent, as in a float64, of 1 in units of a partial sum whose products have the exponent 0.
        self.scale_bias = FLOAT64_BIAS - int(unit_exponent(config, TOP_COARSE))
        self.exponent = word.astype(np.int16).reshape(shape)

    def accumulate(
        self,
        state: NDArray[np.float64],
        weights: NDArray[np.float64],
        exponents: NDArray[np.int16],
        distances: NDArray[np.int64],
        may_vanish: bool,
    ) -> None:
        """Add to numerators and, last, the denominator: (F+1, P). ``may_vanish``: a state may become too small."""
        tiles, rows, columns = self.value.shape
        queries, padding = weights.shape[1], tiles * rows - len(weights)
        if padding:
            weights = np.pad(weights, ((0, padding), (0, 0)))
            exponents = np.pad(exponents, ((0, padding), (0, 0)), constant_values=NO_WEIGHT)
        weights = weights.reshape(tiles, rows, 1, queries)
        exponents = exponents.reshape(tiles, rows, 1, queries)
        rescale = np.ldexp(1.0, -distances)
        step = min(tiles, max(1, BLOCK_NUMBERS // (columns * queries)))
        part, bits = np.empty_like(state), np.empty(state.shape, np.int64)
        for start in range(0, tiles, step):
            block = slice(start, start + step)
            sums = self.column_sums(block, weights[block], exponents[block])
            for total, factor in zip(sums, rescale[block], strict=True):
                state *= factor
                add_to_state(state, total, part, bits)
                if may_vanish:
                    state[np.abs(state) < 2.0 ** (ZERO_EXPONENT + 1)] = 0.0

    def column_sums(self, block: slice, weights: NDArray[np.float64], exponents: NDArray[np.int16]) -> NDArray[np.float64]:
        """Sums of a block of tiles, (tiles, F+1, P), from weights (tiles, rows, 1, P)."""
        value, exponent = self.value[block, :, :, None], self.exponent[block, :, :, None]
        # By the first row: smallest exponent so far, cut to steps, and the partial sum's units in 1.
        lowest = exponent[:, 0] + exponents[:, 0]
        np.minimum(lowest, NO_WEIGHT, out=lowest)
        lowest &= -STEP
        scale_bits = np.add(lowest, self.scale_bias, dtype=np.int64)
        scale_bits <<= FLOAT64_FRACTION
        scale = scale_bits.view(np.float64)
        total = value[:, 0] * weights[:, 0]
        if self.signed:
            total += np.abs(total) * OFF_TIE
        total *= scale
        total += INTEGERS
        placed, amount, raises = np.empty_like(total), np.empty_like(lowest), np.empty(total.shape, np.bool_)
        flat_total, flat_scale_bits = total.ravel(), scale_bits.ravel()
        flat_lowest, flat_amount = lowest.ravel(), amount.ravel()
        for row in range(1, value.shape[1]):
            # The product's coarse exponent is the larger one if its exponent is below the whole step of the partial sum.
            np.add(exponent[:, row], exponents[:, row], out=amount)
            np.less(amount, lowest, out=raises)
            found = np.flatnonzero(raises)
            if len(found):
                new = flat_amount[found] & -STEP
                steps = flat_lowest[found] - new >> STEP_LOG2
                kept = flat_total[found] - INTEGERS
                kept *= _KEPT[np.minimum(steps, STEPS + 1)]
                flat_total[found] = np.floor(kept, out=kept) + INTEGERS
                flat_lowest[found] = new
                flat_scale_bits[found] = new.astype(np.int64) + self.scale_bias << FLOAT64_FRACTION
            np.multiply(value[:, row], weights[:, row], out=placed)
            if self.signed:
                placed += np.abs(placed) * OFF_TIE
            placed *= scale
            total += placed
        total -= INTEGERS
        total /= scale
        return total


#: Of what a partial sum is multiplied by, by steps, before it is rounded down.
_KEPT = np.append(np.ldexp(1.0, -STEP * np.arange(STEPS + 1)), 0.0)


def add_to_state(
    state: NDArray[np.float64], addend: NDArray[np.float64], work: NDArray[np.float64], bits: NDArray[np.int64]
) -> None:
    """state ← state + addend, rounded once to nearest even to 24 bits."""
    total = np.add(state, addend, out=work)
    if ((total - state) != addend).any() or ((total - addend) != state).any():
        # The difference to the larger operand is exact, so an inexact sum never passes both comparisons.
        addend_part = total - state
        lost = (state - (total - addend_part)) + (addend - addend_part)
        even = (total.view(np.int64) & 1 == 0) & (lost != 0)
        total.view(np.int64)[even] += np.where((lost > 0) == (total > 0), 1, -1)[even]
    # Round to nearest even in the float64's bits; a carry runs into the exponent, as it should.
    drop = 52 - FRACTION_BITS
    np.right_shift(total.view(np.int64), drop, out=bits)
    bits &= 1
    bits += (1 << drop - 1) - 1
    bits += total.view(np.int64)
    np.bitwise_and(bits, -(1 << drop), out=state.view(np.int64))


def from_float64(values: NDArray[np.float64]) -> StateFloat:
    """State floats of float64 numbers that are 24-bit numbers."""
    fraction, exponent = np.frexp(values)
    zero = values == 0
    return StateFloat(
        np.where(zero, 0, values < 0).astype(np.int64),
        np.where(zero, ZERO_EXPONENT, exponent.astype(np.int64) - 1),
        np.abs(np.ldexp(fraction, FRACTION_BITS + 1)).astype(np.int64),
    )

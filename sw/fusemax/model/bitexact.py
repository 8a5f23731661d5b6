"""What the machine computes for a head of attention, bit for bit, in vectorised NumPy.

The operators of ``fusemax.arith`` are written in integers; here the three inner loops work on float64 holding the same
integers, which is as exact and several times faster:

* **Multiply and place.** A product has at most 26 significant bits and is scaled by a power of two, so float64 holds
  x = product · 2^(align - shift) exactly. floor(x + 1/2) is then exact too: let 2^k ≤ abs(x) < 2^(k+1). For k ≥ -27, x + 1/2
  is a multiple of 2^(k-25) (or of 1/2) below 2^(max(k, 0) + 2) and fits 53 bits. For k < -27, x + 1/2 may be rounded, but stays
  between 1/4 and 3/4, and the floor is 0. Shifts above 63 leave 0 either way.
* **Sums** of placed products are integers below 2^48.
* **State update.** State, rescaled state and tile sum are float64 numbers far from either end of its exponent range. Their sum
  is rounded to 53 bits first; if that was not exact, the lowest bit is made odd in the direction of the lost part (rounding
  to odd), after which rounding to 24 bits gives what the infinitely precise sum would give.

Time goes into four passes (multiply, add 1/2, floor, accumulate) over P·M·(E + F + 1) numbers, in blocks that stay in the
cache; with few rows per tile the state update, some twelve passes over P·(F + 1) numbers per key tile, takes its share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..arith import bf16
from ..arith.exp2 import MAX_WEIGHT_EXPONENT, Exp2Table
from ..arith.output import divide
from ..arith.placement import place, wrap
from ..arith.query_scale import ScaledQuery, scale_query
from ..arith.reference import MAX_DISTANCE, ceil_score
from ..arith.state import FRACTION_BITS, ZERO_EXPONENT, StateFloat
from ..spec import Config

__all__ = ["Result", "attention"]

#: Queries worked on together.
QUERY_BLOCK = 256
#: Numbers in a block of the inner loops: two such blocks of float64 fit a second-level cache.
BLOCK_NUMBERS = 1 << 15


@dataclass(frozen=True)
class Result:
    """Output bits and the two sticky flags of STATUS."""

    #: (..., P, F), uint32 of float32 or uint16 of bfloat16.
    out_bits: NDArray[np.uint32 | np.uint16]
    #: A score or a scaled query left its range.
    overflow: bool
    #: An infinity or a NaN was among the inputs.
    nonfinite: bool


def attention(
    config: Config,
    q: NDArray[np.uint16],
    k: NDArray[np.uint16],
    v: NDArray[np.uint16],
    scale: float | np.float32,
    out_float32: bool,
) -> Result:
    """Output of the machine: softmax over the keys of 2^(scale · q · k), times v.

    Parameters
    ----------
    q, k, v
        bfloat16 bits, (..., P, E), (..., M, E), (..., M, F). Leading axes broadcast and are worked on head by head; P, M, E
        and F are at least 1, E and F at most ``config.max_e`` and ``config.max_f``.
    scale
        The factor of every query, a float32 number: softmax scale times log2(e).
    out_float32
        float32 output if true, else bfloat16.

    Raises
    ------
    TypeError
        If an array is not of type uint16.
    ValueError
        If the shapes do not fit each other or the configuration.
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
    scale_bits = int(np.float32(scale).view(np.uint32))
    out = np.empty((*leading, queries, f), np.uint32 if out_float32 else np.uint16)
    overflow = False
    for head in np.ndindex(leading):
        out[head], head_overflow = _head(config, q[head], k[head], v[head], scale_bits, out_float32)
        overflow |= head_overflow
    return Result(out, overflow, any(bool(bf16.is_nonfinite(array).any()) for array in (q, k, v)))


def _head(
    config: Config,
    q: NDArray[np.uint16],
    k: NDArray[np.uint16],
    v: NDArray[np.uint16],
    scale_bits: int,
    out_float32: bool,
) -> tuple[NDArray[np.uint32 | np.uint16], bool]:
    keys = _Keys(config, k)
    values = _Values(config, v)
    out, overflow = [], False
    for start in range(0, len(q), QUERY_BLOCK):
        scaled = scale_query(config, q[start : start + QUERY_BLOCK], scale_bits)
        scores, score_overflow = keys.scores(scaled)
        overflow |= score_overflow or bool(scaled.overflow.any())
        weights, distances = _weights(config, scores)
        state = values.accumulate(weights, distances)
        out.append(divide(StateFloat(*(part[:-1] for part in state)), StateFloat(*(part[-1] for part in state)), out_float32).T)
    return np.concatenate(out), overflow


class _Keys:
    """Keys of a head, ready for scores; arrays are (E, M)."""

    def __init__(self, config: Config, k: NDArray[np.uint16]) -> None:
        self.config = config
        self.sig, exponent = (np.ascontiguousarray(part.T) for part in bf16.unpack(k))
        self.shift = 255 - exponent
        self.value = np.ldexp(self.sig.astype(np.float64), config.product_align - self.shift)

    def scores(self, scaled: ScaledQuery) -> tuple[NDArray[np.float64], bool]:
        """Scores (M, P) as float64 integers, wrapped as the machine wraps them, and whether one of them overflowed."""
        operand, shift = scaled.operand.T, scaled.exponent_word.T
        query = np.ascontiguousarray(np.ldexp(operand.astype(np.float64), -shift))
        e, keys, queries = len(query), self.sig.shape[1], query.shape[1]
        scores = np.empty((keys, queries))
        step = max(1, BLOCK_NUMBERS // queries)
        buffer = np.empty((min(step, keys), queries))
        largest_query = np.abs(query).max(axis=1)
        overflow = False
        for start in range(0, keys, step):
            block = slice(start, min(start + step, keys))
            key = self.value[:, block, None]
            # A negative shift makes a single product as large as this limit already.
            bound = (largest_query * np.abs(key).max(axis=(1, 2)) + 1).sum()
            if bound >= 1 << self.config.score_bits - 1:
                scores[block], block_overflow = self._checked_scores(block, operand, shift)
                overflow |= block_overflow
                continue
            total, placed = scores[block], buffer[: block.stop - block.start]
            _place(key[0], query[0], total)
            for index in range(1, e):
                total += _place(key[index], query[index], placed)
        return scores, overflow

    def _checked_scores(
        self, block: slice, operand: NDArray[np.int64], shift: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], bool]:
        """Scores of a block in which some sum or shift may leave its range, looking at every step."""
        total = np.zeros((block.stop - block.start, operand.shape[1]), np.int64)
        overflow = False
        for index in range(len(operand)):
            amount = self.shift[index, block, None] + shift[index]
            total = total + place(self.sig[index, block, None] * operand[index], self.config.product_align, amount)
            wrapped = wrap(total, self.config.score_bits)
            overflow |= bool((amount < 0).any() or (wrapped != total).any())
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


def _weights(config: Config, scores: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Weights (M, P), mantissa · 2^-w, against the references of their tiles, and rescale distances (tiles, P)."""
    keys = len(scores)
    starts = np.arange(0, keys, config.rows)
    local = ceil_score(config, np.maximum.reduceat(scores, starts, axis=0))
    reference = np.maximum.accumulate(local, axis=0)
    distances = np.full(reference.shape, MAX_DISTANCE)
    distances[1:] = np.minimum(np.diff(reference, axis=0), MAX_DISTANCE)

    score = scores.astype(np.int64)
    weights = _mantissas(config.score_frac_bits)[score & (1 << config.score_frac_bits) - 1]
    score >>= config.score_frac_bits
    np.subtract(np.repeat(reference + config.weight_shift, config.rows, axis=0)[:keys], score, out=score)
    weights *= np.ldexp(1.0, -np.arange(MAX_WEIGHT_EXPONENT + 1))[np.minimum(score, MAX_WEIGHT_EXPONENT, out=score)]
    return weights, distances


class _Values:
    """Values of a head on the grids of their tiles, with a last column of ones for the denominator; arrays are (M, F+1)."""

    def __init__(self, config: Config, v: NDArray[np.uint16]) -> None:
        self.rows = config.rows
        sig, exponent = bf16.unpack(v)
        starts = np.arange(0, len(v), config.rows)
        grid = np.maximum.reduceat(exponent, starts, axis=0)
        below = np.repeat(grid, config.rows, axis=0)[: len(v)] - exponent
        numerators = np.ldexp(sig.astype(np.float64), config.product_align - below)
        one = 128.0 * 2**config.product_align
        self.value = np.pad(numerators, ((0, 0), (0, 1)), constant_values=one)
        #: Unit of a tile's sums, (tiles, F+1, 1).
        self.unit = np.ldexp(1.0, np.pad(grid - 127, ((0, 0), (0, 1))) - config.sum_frac_bits)[..., None]
        # No state but zero is smaller than this, times the product of its rescalings.
        self.smallest_exponent = -127 - config.sum_frac_bits

    def accumulate(self, weights: NDArray[np.float64], distances: NDArray[np.int64]) -> StateFloat:
        """Numerators and, last, the denominator: (F+1, P)."""
        keys, queries = weights.shape
        tiles, columns = len(distances), self.value.shape[1]
        state = np.zeros((columns, queries))
        rescale = np.ldexp(1.0, -distances)
        may_vanish = bool((self.smallest_exponent - distances[1:].sum(axis=0) <= ZERO_EXPONENT).any())
        step = min(self.rows, max(1, BLOCK_NUMBERS // (columns * queries)))
        buffer = np.empty((step, columns, queries))
        total, part, bits = np.empty_like(state), np.empty_like(state), np.empty(state.shape, np.int64)
        for tile in range(tiles):
            end = min((tile + 1) * self.rows, keys)
            for start in range(tile * self.rows, end, step):
                block = slice(start, min(start + step, end))
                placed = buffer[: block.stop - start]
                _place(self.value[block, :, None], weights[block, None, :], placed)
                if start == tile * self.rows:
                    np.add.reduce(placed, axis=0, out=total)
                else:
                    total += np.add.reduce(placed, axis=0, out=part)
            total *= self.unit[tile]
            state *= rescale[tile]
            _add_to_state(state, total, part, bits)
            if may_vanish:
                state[np.abs(state) < 2.0 ** (ZERO_EXPONENT + 1)] = 0.0
        return _from_float64(state)


def _add_to_state(
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


def _from_float64(values: NDArray[np.float64]) -> StateFloat:
    """State floats of float64 numbers that are 24-bit numbers."""
    fraction, exponent = np.frexp(values)
    zero = values == 0
    return StateFloat(
        np.where(zero, 0, values < 0).astype(np.int64),
        np.where(zero, ZERO_EXPONENT, exponent.astype(np.int64) - 1),
        np.abs(np.ldexp(fraction, FRACTION_BITS + 1)).astype(np.int64),
    )

"""What the machine computes for a head with any program, bit for bit: its decoded microwords, one after the other.

A program's words are what they are to the hardware. Operations of a tile are evaluated in the order of their slots, each for
all tiles at once; the symbolic checker has shown that overlapping tiles do not change what they give. For softmax,
:func:`fusemax.model.bitexact.attention_head` computes the same several times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ..arith.query_scale import ScaledQuery, scale_query
from ..arith.score_product import Score
from ..arith.state import ZERO_EXPONENT, StateFloat
from ..compiler.micro import Micro, Operation, Register
from ..compiler.program import Program
from ..spec import Config
from .bitexact import (
    NO_REFERENCE,
    NO_WEIGHT,
    QUERY_BLOCK,
    Head,
    Keys,
    Segment,
    Values,
    add_to_state,
    finish_head,
    from_float64,
    running_references,
    smallest_state,
)
from .micro_operations import Integers, Truths, Weights, add, exponential, linear, set_constant, sum_scores

__all__ = ["is_softmax", "program_head"]

Reals = NDArray[np.float64]


@lru_cache(maxsize=64)
def is_softmax(program: Program) -> bool:
    """Whether a program does what softmax attention needs and nothing else."""
    order = [placed.operation for placed in program.schedule.placed if placed.operation is not Operation.MASK]
    biases = [Operation.BIAS] * (program.config.rows * program.takes_bias)
    wanted = [Operation.QK] * program.e + biases + [Operation.MAX, Operation.EXP, Operation.SUM] + [Operation.SLNV] * program.f
    return order == wanted and not program.fixed_reference and not program.spare_hold


def program_head(
    program: Program, q: NDArray[np.uint16], segments: Sequence[Segment], scale: NDArray[np.float32] | np.float32
) -> Head:
    """One head: its queries against the segments of its keys, one after the other.

    Parameters
    ----------
    program
        One that the machine can run (:func:`fusemax.compiler.symbolic_checker.check`).
    q
        bfloat16 bits, (P, E).
    segments
        At least one.
    scale
        float32 factor, of all rows or one per row.
    """
    scale_bits = np.broadcast_to(np.asarray(scale, np.float32), len(q)).view(np.uint32)
    states: list[StateFloat] = []
    references: list[Integers] = []
    overflow = False
    for start in range(0, len(q), QUERY_BLOCK):
        rows = slice(start, start + QUERY_BLOCK)
        block = _Block(program, scale_query(program.config, q[rows], scale_bits[rows, None]))
        for segment in segments:
            block.run(segment, rows)
        states.append(from_float64(block.state))
        references.append(np.where(block.reference == NO_REFERENCE, 0, block.reference))
        overflow |= block.overflow
    return finish_head(q, segments, states, references, overflow)


class _Block:
    """Queries that are worked on together, and what their lanes keep.

    Members
    -------
    state
        Numerators and, last, the denominator: (F+1, P).
    reference
        Running maximum, (P,).
    overflow
        A visible score, or a scaled query, has left its range.
    """

    def __init__(self, program: Program, queries: ScaledQuery) -> None:
        self.program, self.queries = program, queries
        self.micros = tuple(placed.micro for placed in program.schedule.placed)
        columns = len(queries.operand)
        self.state = np.zeros((program.f + 1, columns))
        self.reference = np.full(columns, 0 if program.fixed_reference else NO_REFERENCE)
        self.smallest = np.full(columns, smallest_state(program.config))
        self.overflow = bool(queries.overflow.any())

    def run(self, segment: Segment, rows: slice) -> None:
        """All tiles of a segment."""
        tile = _Tiles(self, segment, rows)
        for micro in self.micros:
            tile.step(micro)
        tile.accumulate()


class _Tiles:
    """Registers of all rows of a segment's tiles, (M, P), while the operations of a tile are gone through."""

    def __init__(self, block: _Block, segment: Segment, rows: slice) -> None:
        self.block, self.segment, self.rows = block, segment, rows
        self.visible = segment.visible(rows)
        self.config: Config = block.program.config
        shape = len(segment.k), len(block.queries.operand)
        self.score = Score(np.zeros(shape, np.int64), np.zeros(shape, np.bool_))
        self.holds: dict[Register, Integers | Weights] = {}
        tiles = -(-shape[0] // self.config.rows)
        self.references: Integers = np.zeros((tiles, shape[1]), np.int64)
        self.distances: Integers = np.zeros((tiles, shape[1]), np.int64)
        #: Weights of every column of the output, and sums of columns that are no values.
        self.weights: dict[int, Weights] = {}
        self.sums: dict[int, Reals] = {}

    def step(self, micro: Micro) -> None:
        """One operation."""
        match micro.operation:
            case Operation.QK:
                # The others of a tile follow without anything between: all at once.
                if micro.first and micro.source is Register.SPARE:
                    # A key of 0.
                    self.score = Score(np.zeros_like(self.score.value), np.zeros_like(self.score.overflow))
                elif micro.first:
                    self.contract()
            case Operation.MAX:
                self.move()
            case Operation.EXP:
                self.exponential(micro)
            case Operation.LIN:
                weights, too_large = linear(self.config, self.score_in(micro.source), micro.first)
                self.holds[micro.target] = weights.hide(self.visible)
                self.note(too_large)
            case Operation.SET:
                assert micro.constant is not None
                self.holds[micro.target] = set_constant(self.config, self.weights_in(micro.source), micro.constant)
            case Operation.ADD:
                assert micro.constant is not None
                weights_ = self.weights_in(micro.source) if micro.constant.sig else None
                self.score = add(self.config, self.score, weights_, micro.constant, micro.first)
            case Operation.ENT:
                weights_ = self.weights_in(micro.source)
                self.sums[micro.index] = sum_scores(self.config, weights_, self.score.value, micro.index)
            case Operation.SUM | Operation.SLNV:
                self.weights[micro.index] = self.weights_in(micro.source)

    def note(self, wrong: Truths) -> None:
        """Raise the flag if a visible row is wrong."""
        self.block.overflow |= bool((wrong if self.visible is None else wrong & self.visible).any())

    def score_in(self, register: Register) -> Integers:
        held = self.holds[register]
        assert not isinstance(held, Weights)
        return held

    def weights_in(self, register: Register) -> Weights:
        held = self.holds[register]
        assert isinstance(held, Weights)
        return held

    def contract(self) -> None:
        """QKs and the BIASes behind them: the scores, and whether a visible one has left its range."""
        keys = Keys(self.config, self.segment.k)
        values, overflow = self.segment.scores(keys, self.block.queries, self.rows, self.visible)
        self.score = Score(values.astype(np.int64), np.zeros(values.shape, np.bool_))
        self.block.overflow |= overflow

    def move(self) -> None:
        """MAX: the score goes to the hold register, and the largest visible one of a tile to the lane."""
        self.note(self.score.overflow)
        self.holds[Register.HOLD] = self.score.value
        if not self.block.program.fixed_reference:
            self.references, self.distances = running_references(
                self.config, self.score.value.astype(np.float64), self.visible, self.block.reference
            )

    def exponential(self, micro: Micro) -> None:
        score = self.score_in(micro.source)
        reference = micro.reference
        if reference is None:
            # Where no key was seen, no weight is visible either.
            rows = np.where(self.references == NO_REFERENCE, 0, self.references)
            weights = exponential(self.config, score, np.repeat(rows, self.config.rows, axis=0)[: len(score)], micro.first)
        else:
            weights = exponential(self.config, score, reference, micro.first)
        self.holds[micro.target] = weights.hide(self.visible)

    def accumulate(self) -> None:
        """Tile by tile, sums go into the states of the lanes."""
        block, f = self.block, self.block.program.f
        block.smallest -= self.distances.sum(axis=0)
        may_vanish = bool((block.smallest <= ZERO_EXPONENT).any())
        groups: dict[int, list[int]] = {}
        for index, weights in self.weights.items():
            groups.setdefault(id(weights), []).append(index)
        for indices in groups.values():
            weights = self.weights[indices[0]]
            columns = [index for index in indices if index < f]
            signed = bool((weights.mantissa < 0).any())
            values = Values(self.config, np.ascontiguousarray(self.segment.v[:, columns]), signed=signed)
            # The last column is that of ones, whether it is wanted or not.
            rows = [*columns, f]
            state = block.state[rows]
            raw = np.ldexp(weights.mantissa.astype(np.float64), -weights.exponent)
            exponents = np.where(weights.mantissa == 0, NO_WEIGHT, weights.exponent).astype(np.int16)
            values.accumulate(state, raw, exponents, self.distances, may_vanish)
            wanted = [place for place, row in enumerate(rows) if row in indices]
            block.state[[rows[place] for place in wanted]] = state[wanted]
        for index, sums in self.sums.items():
            state = block.state[index : index + 1]
            for total, factor in zip(sums, np.ldexp(1.0, -self.distances), strict=True):
                state *= factor
                add_to_state(state, total[None], np.empty_like(state), np.empty(state.shape, np.int64))
                state[np.abs(state) < 2.0 ** (ZERO_EXPONENT + 1)] = 0.0
        block.reference = self.references[-1] if not block.program.fixed_reference else block.reference

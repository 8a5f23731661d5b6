"""Heads of attention on a GPU: what :func:`fusemax.model.bitexact.attention_head` computes, bit for bit, for many heads."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from ..arith.exp2 import Exp2Table
from ..arith.reciprocal import RECIPROCAL
from ..spec import Config, ceil_div
from .operands import CHUNK, NONFINITE, OVERFLOW, prepare_keys, prepare_queries, prepare_values
from .output import write_denominators, write_output
from .rounding import INTERPRETED
from .scores import compute_far_scores, compute_scores
from .sums import accumulate_sums, exponent_offset
from .weights import compute_weights, find_local_references, run_references

__all__ = ["Blocks", "Heads", "KeySegment", "compute_heads"]

#: Bytes of scores and weights that are kept at a time.
SCRATCH_BYTES = 4 << 30


@dataclass(frozen=True)
class Blocks:
    """Sizes of the kernels' blocks, all powers of two.

    Members
    -------
    score_queries, score_keys, score_warps
        Queries, keys and warps of a block of scores.
    queries, columns, warps
        Queries, columns of values and warps of a block of sums.
    rows
        Rows of a tile whose loads may be under way together.
    """

    score_queries: int = 256
    score_keys: int = 16
    score_warps: int = 4
    queries: int = 64
    columns: int = 16
    warps: int = 4
    rows: int = 16


#: Sizes for an H200, and for the interpreter, where large blocks of small problems cost time.
BLOCKS = Blocks(score_queries=64, score_keys=64, columns=32) if INTERPRETED.value else Blocks()


@dataclass(frozen=True)
class KeySegment:
    """Keys and values that are cut into tiles from their own start.

    Members
    -------
    k, v
        bfloat16 bits as int16, (key heads, M, E) and (key heads, M, F), contiguous in the last axis.
    lo, hi
        Query row r of head h sees keys ``lo[h, r] <= j < hi[h, r]``: contiguous int32, (heads, P), from 0 to M. None: all keys.
    """

    k: torch.Tensor
    v: torch.Tensor
    lo: torch.Tensor | None = None
    hi: torch.Tensor | None = None

    def queries(self, heads: slice, rows: slice) -> KeySegment:
        """The segment for some of the query heads, and some of their rows; keys stay."""
        if self.lo is None or self.hi is None:
            return self
        return KeySegment(self.k, self.v, self.lo[heads, rows].contiguous(), self.hi[heads, rows].contiguous())

    def key_heads(self, heads: slice) -> KeySegment:
        """The segment for some of the key heads."""
        return KeySegment(self.k[heads], self.v[heads], self.lo, self.hi)


@dataclass(frozen=True)
class Heads:
    """What is left of heads when all keys have passed, on the GPU.

    Members
    -------
    out
        Bits of the output rows, (heads, P, F): int32 of float32 or int16 of bfloat16.
    states
        Reference, 0 of a query that has seen no key, and float32 bits of the denominator, (heads, P, 2) int32; None if
        they were not asked for.
    flags
        One int32 with bits OVERFLOW and NONFINITE of :mod:`~fusemax.cuda.operands`.
    """

    out: torch.Tensor
    states: torch.Tensor | None
    flags: torch.Tensor

    def sticky(self) -> tuple[bool, bool]:
        """Whether a visible score or a scaled query left its range, and whether an infinity or a NaN was read; waits."""
        flags = int(self.flags.item())
        return bool(flags & OVERFLOW.value), bool(flags & NONFINITE.value)


def compute_heads(
    config: Config,
    q: torch.Tensor,
    scale: torch.Tensor,
    segments: Sequence[KeySegment],
    *,
    float32: bool,
    raw: bool = False,
    states: bool = False,
    blocks: Blocks | None = None,
) -> Heads:
    """Compute attention of heads with the machine's own bits.

    Infinities and NaNs are taken for numbers with the exponent 255, as the machine takes them.

    Parameters
    ----------
    q
        bfloat16 bits as int16, (heads, P, E), contiguous in the last axis; heads are a multiple of the key heads.
    scale
        float32 bits of the factor of every row as int32, (heads, P), of any strides.
    segments
        One after the other; at least one.
    float32, raw
        float32 output, else bfloat16; numerators that are not divided.
    states
        Return the rows' references and denominators too.
    blocks
        Sizes of the kernels' blocks.
    """
    heads, queries, _ = q.shape
    key_heads, f = segments[0].k.shape[0], segments[0].v.shape[2]
    share = heads // key_heads
    blocks = blocks or BLOCKS
    out = torch.empty((heads, queries, f), dtype=torch.int32 if float32 else torch.int16, device=q.device)
    state_words = torch.empty((heads, queries, 2), dtype=torch.int32, device=q.device) if states else None
    flags = torch.zeros(1, dtype=torch.int32, device=q.device)
    row_bytes = max(segment.k.shape[1] for segment in segments) * (8 + _score_bytes(config))
    most_rows = max(1, SCRATCH_BYTES // row_bytes // 128) * 128
    most_heads = max(1, min(SCRATCH_BYTES // (row_bytes * queries) // share, 65535 // share))
    with torch.cuda.device_of(q):
        for first in range(0, key_heads, most_heads):
            some = slice(first, min(first + most_heads, key_heads))
            mine = slice(some.start * share, some.stop * share)
            for start in range(0, queries, most_rows):
                rows = slice(start, min(start + most_rows, queries))
                parts = [segment.key_heads(some).queries(mine, rows) for segment in segments]
                run = _Run(config, q[mine, rows], scale[mine, rows], parts, flags, blocks)
                run.write(out[mine, rows], float32, raw)
                if state_words is not None:
                    state_words[mine, rows] = run.state_words()
    return Heads(out, state_words, flags)


def _score_bytes(config: Config) -> int:
    return 4 if config.score_bits <= 32 else 8


class _Run:
    """Running sums of as many heads and queries as there is memory for."""

    def __init__(
        self,
        config: Config,
        q: torch.Tensor,
        scale: torch.Tensor,
        segments: Sequence[KeySegment],
        flags: torch.Tensor,
        blocks: Blocks,
    ) -> None:
        self._config, self._flags, self._blocks, self._device = config, flags, blocks, q.device
        self.heads, self.queries, self.e = q.shape
        self.f = segments[0].v.shape[2]
        largest = max(blocks.queries, blocks.score_queries)
        self._padded = ceil_div(self.queries, largest) * largest
        self._q_blocks = self._padded // blocks.queries
        self._score_blocks = self._padded // blocks.score_queries
        self._f_blocks = ceil_div(self.f + 1, blocks.columns)
        self._columns = self._f_blocks * blocks.columns
        self._chunks = ceil_div(self.e, CHUNK.value)
        self._scale_queries(q, scale)
        self._state = self._new((self.heads, self._padded, self._columns), torch.float64)
        for number, segment in enumerate(segments):
            last = self._reference[:, self._tiles] if number else None
            self._reference, self._tiles = self._pass(segment, last)

    def _new(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=self._device)

    def _scale_queries(self, q: torch.Tensor, scale: torch.Tensor) -> None:
        config, elements = self._config, self._chunks * CHUNK.value
        self._query = self._new((self.heads, elements, self._padded), torch.float32)
        self._query_word = self._new((self.heads, elements, self._padded), torch.int32)
        self._query_length = self._new((self.heads, self._chunks, self._score_blocks), torch.float64)
        prepare_queries[(self._score_blocks, self.heads)](
            q, q.stride(0), q.stride(1), scale, scale.stride(0), scale.stride(1),
            self._query, self._query_word, self._query_length, self._flags,
            self.queries, self._padded, self._score_blocks, self.e, self._chunks,
            BIAS=config.query_exponent_bias, FRACTION=config.score_frac_bits, BLOCK=self._blocks.score_queries, num_warps=8,
        )  # fmt: skip

    def _pass(self, segment: KeySegment, last: torch.Tensor | None) -> tuple[torch.Tensor, int]:
        """Add a segment of keys; ``last`` are the references of the one before. Returns those after every tile."""
        config, blocks, rows = self._config, self._blocks, self._config.rows
        key_heads, keys = segment.k.shape[:2]
        share = self.heads // key_heads
        tiles = ceil_div(keys, rows)
        k_blocks = ceil_div(keys, blocks.score_keys)
        padded = k_blocks * blocks.score_keys
        masked = segment.lo is not None
        lo, hi = (segment.lo, segment.hi) if masked else (self._flags, self._flags)

        key = self._new((key_heads, self._chunks * CHUNK.value, padded), torch.int32)
        key_length = self._new((key_heads, self._chunks, k_blocks), torch.float64)
        prepare_keys[(k_blocks, key_heads)](
            segment.k, segment.k.stride(0), segment.k.stride(1), key, key_length, self._flags, keys, padded, k_blocks,
            self.e, self._chunks, BLOCK=blocks.score_keys,
        )  # fmt: skip
        first, rest = exponent_offset(config.product_align)
        tile_rows = _power(rows)
        value = self._new((key_heads, tiles * rows, self._columns), torch.float64)
        value_exponent = self._new((key_heads, tiles * rows, self._columns), torch.int32)
        value_range = self._new((key_heads, tiles, self._f_blocks, 2), torch.int32)
        prepare_values[(tiles, self._f_blocks, key_heads)](
            segment.v, segment.v.stride(0), segment.v.stride(1), value, value_exponent, value_range,
            self._flags, keys, tiles, self._columns, self._f_blocks, self.f,
            ROWS=rows, ROWS_POWER=tile_rows, OFFSET=first + 7 - 1023, BLOCK=blocks.columns,
        )  # fmt: skip

        score = self._new((self.heads, padded, self._padded), torch.int32 if config.score_bits <= 32 else torch.int64)
        # A grid's first axis may be longer than 65535.
        score_grid = k_blocks, self._score_blocks, self.heads
        sizes = {
            "MASKED": masked,
            "BLOCK_Q": blocks.score_queries,
            "BLOCK_K": blocks.score_keys,
            "num_warps": blocks.score_warps,
        }
        compute_scores[score_grid](
            self._query, self._query_length, key.view(torch.float32), key_length, lo, hi, score,
            self.queries, self._padded, padded, self._score_blocks, k_blocks, share, self._chunks, **sizes,
        )  # fmt: skip
        compute_far_scores[score_grid](
            self._query_word, self._query_length, key, key_length, lo, hi, score, self._flags,
            self.queries, self._padded, keys, padded, self._score_blocks, k_blocks, share, self._chunks,
            ALIGN=config.product_align, BITS=config.score_bits, **sizes,
        )  # fmt: skip
        reference = self._new((self.heads, tiles + 1, self._padded), torch.int32)
        continued = last is not None
        if continued:
            reference[:, 0] = last
        grid = (tiles, self._q_blocks, self.heads)
        common = {
            "ROWS": rows,
            "ROWS_POWER": tile_rows,
            "FRACTION": config.score_frac_bits,
            "MASKED": masked,
            "BLOCK": blocks.queries,
        }
        find_local_references[grid](
            score, lo, hi, reference, self.queries, self._padded, keys, padded, tiles, **common
        )  # fmt: skip
        run_references[(self._padded // 32, self.heads)](reference, self._padded, tiles, CONTINUED=continued, BLOCK=32, STEP=64)
        values, slopes = _exp2_tables(self._device)
        weight = self._new((self.heads, tiles * rows, self._padded), torch.int64)
        weight_range = self._new((self.heads, tiles, self._q_blocks, 2), torch.int32)
        compute_weights[grid](
            score, lo, hi, reference, values, slopes, weight, weight_range,
            self.queries, self._padded, keys, padded, tiles, self._q_blocks, **common,
        )  # fmt: skip
        accumulate_sums[(self._q_blocks, self._f_blocks, self.heads)](
            weight.view(torch.float64), weight_range, value, value_exponent, value_range, reference, lo, hi, self._state,
            self._new((self.heads * self._f_blocks * self._q_blocks,), torch.int32),
            self.queries, self._padded, tiles, self._columns, self._q_blocks, self._f_blocks, share,
            ROWS=rows, ROWS_POWER=tile_rows, FIRST=first, REST=rest, MASKED=masked,
            CONTINUED=continued, UNROLL=min(blocks.rows, rows),
            BLOCK_F=blocks.columns, BLOCK_Q=blocks.queries, num_warps=blocks.warps,
        )  # fmt: skip
        return reference, tiles

    def write(self, out: torch.Tensor, float32: bool, raw: bool) -> None:
        """Write output rows, a view with elements that follow each other."""
        columns = min(64, _power(self.f))
        write_output[(ceil_div(self.queries, 32), ceil_div(self.f, columns), self.heads)](
            self._state, *_reciprocal_tables(self._device), out, out.stride(0), out.stride(1),
            self.queries, self._padded, self._columns, self.f,
            FLOAT32=float32, RAW=raw, BLOCK_F=columns, BLOCK_Q=32,
        )  # fmt: skip

    def state_words(self) -> torch.Tensor:
        """References and denominators, (heads, P, 2)."""
        words = self._new((self.heads, self.queries, 2), torch.int32)
        write_denominators[(ceil_div(self.queries, 128), self.heads)](
            self._state, self._reference, words, self.queries, self._padded, self._columns, self._tiles, self.f, BLOCK=128
        )
        return words


def _power(number: int) -> int:
    """The power of two that is not below a number."""
    return 1 << (number - 1).bit_length()


@lru_cache(maxsize=8)
def _exp2_tables(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(table, dtype=torch.int32, device=device) for table in (Exp2Table.values, Exp2Table.slopes))


@lru_cache(maxsize=8)
def _reciprocal_tables(device: torch.device) -> tuple[torch.Tensor, ...]:
    tables = RECIPROCAL.c0, RECIPROCAL.c1, RECIPROCAL.c2
    return tuple(torch.tensor(table, dtype=torch.int32, device=device) for table in tables)

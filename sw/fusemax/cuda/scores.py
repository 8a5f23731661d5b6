"""Scores of queries and keys in Triton.

A product x is rounded half up. floor(x + 1/2) = floor(2x) - floor(x), and a float32 sum whose neighbours are 1 apart takes up
floor(x) by one multiply-add that rounds down. So two multiply-adds make a rounded product and its sum, as long as the sums
stay below 2^22. By the Cauchy-Schwarz inequality they do where the lengths of the queries and keys of a block say so; other
blocks go the machine's way step by step, and see overflows.
"""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from .operands import CHUNK, HUGE, OVERFLOW
from .rounding import INTEGERS, multiply_add_down

__all__ = ["compute_far_scores", "compute_scores"]

#: Bound of the sums, and what roundings add to them at most.
LIMIT = tl.constexpr(2.0**22 - 64)
#: Above the roundings of the lengths.
LONGER = tl.constexpr(1.0001)


@triton.jit
def _is_needed(
    lo_ptr, hi_ptr, head, query, queries, k_block,
    MASKED: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Whether some query may see a key of the block."""
    if MASKED:
        lo = tl.load(lo_ptr + head * queries + query, mask=query < queries, other=2147483647)
        hi = tl.load(hi_ptr + head * queries + query, mask=query < queries, other=0)
        return (tl.min(lo, axis=0) < (k_block + 1) * BLOCK_K) & (tl.max(hi, axis=0) > k_block * BLOCK_K)
    else:
        return True


@triton.jit
def _is_near(
    q_length_ptr, k_length_ptr, head, key_head, q_block, k_block, q_blocks, k_blocks, chunks
):  # fmt: skip
    """Whether lengths say that no sum of a chunk leaves its range."""
    far = 0
    for chunk in range(chunks):
        q_length = tl.load(q_length_ptr + (head * chunks + chunk) * q_blocks + q_block)
        k_length = tl.load(k_length_ptr + (key_head * chunks + chunk) * k_blocks + k_block)
        near = (k_length < HUGE) & (2 * LONGER * q_length * k_length < LIMIT)
        far += 1 - near.to(tl.int32)
    return far == 0


@triton.jit(do_not_specialize=["queries", "chunks", "q_blocks", "k_blocks", "share"])
def compute_scores(
    q_ptr, q_length_ptr, k_ptr, k_length_ptr, lo_ptr, hi_ptr, score_ptr,
    queries, queries_padded, keys_padded, q_blocks, k_blocks,
    share, chunks, MASKED: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Scores (heads, M, P), but for blocks whose sums may be large, and those of which no query sees a key."""
    k_block = tl.program_id(0)
    q_block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    key_head = head // share
    query = q_block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    key = k_block * BLOCK_K + tl.arange(0, BLOCK_K)
    if _is_needed(lo_ptr, hi_ptr, head, query, queries, k_block, MASKED, BLOCK_K):  # noqa: SIM102
        if _is_near(q_length_ptr, k_length_ptr, head, key_head, q_block, k_block, q_blocks, k_blocks, chunks):
            q_place = q_ptr + head * chunks * CHUNK * queries_padded + query[None, :]
            k_place = k_ptr + key_head * chunks * CHUNK * keys_padded + key[:, None]
            total = tl.zeros([BLOCK_K, BLOCK_Q], tl.int32)
            for _ in range(chunks):
                double = tl.full([BLOCK_K, BLOCK_Q], INTEGERS, tl.float32)
                single = tl.full([BLOCK_K, BLOCK_Q], INTEGERS, tl.float32)
                for _ in tl.static_range(CHUNK):
                    q = tl.load(q_place)
                    k = tl.load(k_place)
                    double = multiply_add_down(k, q + q, double)
                    single = multiply_add_down(k, q, single)
                    q_place += queries_padded
                    k_place += keys_padded
                # Between 2^23 and 2^24 the words of float32 numbers are as far apart as the numbers.
                total += double.to(tl.int32, bitcast=True) - single.to(tl.int32, bitcast=True)
            out = score_ptr + (head * keys_padded + key.to(tl.int64)[:, None]) * queries_padded + query[None, :]
            tl.store(out, total.to(score_ptr.dtype.element_ty))


@triton.jit(do_not_specialize=["queries", "keys", "chunks", "q_blocks", "k_blocks", "share"])
def compute_far_scores(
    word_ptr, q_length_ptr, bits_ptr, k_length_ptr, lo_ptr, hi_ptr, score_ptr, flags_ptr,
    queries, queries_padded, keys, keys_padded, q_blocks, k_blocks,
    share, chunks, ALIGN: tl.constexpr, BITS: tl.constexpr,
    MASKED: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Scores of the blocks whose sums may be large, wrapped as the machine wraps them.

    The flag OVERFLOW is set if a visible one overflowed.
    """
    k_block = tl.program_id(0)
    q_block = tl.program_id(1)
    head = tl.program_id(2).to(tl.int64)
    key_head = head // share
    query = q_block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    key = k_block * BLOCK_K + tl.arange(0, BLOCK_K)
    if not _is_near(q_length_ptr, k_length_ptr, head, key_head, q_block, k_block, q_blocks, k_blocks, chunks):  # noqa: SIM102
        if _is_needed(lo_ptr, hi_ptr, head, query, queries, k_block, MASKED, BLOCK_K):
            word_place = word_ptr + head * chunks * CHUNK * queries_padded + query[None, :]
            bits_place = bits_ptr + key_head * chunks * CHUNK * keys_padded + key[:, None]
            score = tl.zeros([BLOCK_K, BLOCK_Q], tl.int64)
            wrong = tl.zeros([BLOCK_K, BLOCK_Q], tl.int32)
            half = tl.full([1, 1], 1 << (BITS - 1), tl.int64)
            for _ in range(chunks * CHUNK):
                word = tl.load(word_place)
                bits = tl.load(bits_place)
                exponent = (bits >> 23) & 0xFF
                sig = tl.where(exponent == 0, 0, 128 | ((bits >> 16) & 0x7F))
                sig = tl.where(bits < 0, -sig, sig)
                shift = (255 - exponent) + (((word & 511) ^ 256) - 256)
                amount = tl.where((shift < 0) | (shift > 63), 63, shift).to(tl.int64)
                product = (sig * (word >> 9)).to(tl.int64) << ALIGN
                placed = ((product >> tl.maximum(amount - 1, 0)) + 1) >> 1
                score += tl.where(amount == 0, product, placed)
                wrapped = ((score + half) & (2 * half - 1)) - half
                wrong = wrong | (wrapped != score).to(tl.int32) | (shift < 0).to(tl.int32)
                score = wrapped
                word_place += queries_padded
                bits_place += keys_padded
            out = score_ptr + (head * keys_padded + key.to(tl.int64)[:, None]) * queries_padded + query[None, :]
            tl.store(out, score.to(score_ptr.dtype.element_ty))
            seen = (key < keys)[:, None] & (query < queries)[None, :]
            if MASKED:
                lo = tl.load(lo_ptr + head * queries + query, mask=query < queries, other=0)
                hi = tl.load(hi_ptr + head * queries + query, mask=query < queries, other=0)
                seen = seen & (key[:, None] >= lo[None, :]) & (key[:, None] < hi[None, :])
            if tl.max(tl.max(tl.where(seen, wrong, 0), axis=1), axis=0) > 0:
                tl.atomic_or(flags_ptr, OVERFLOW)

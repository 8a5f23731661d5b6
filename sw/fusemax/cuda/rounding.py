"""Arithmetic rounded down in Triton: one instruction on a GPU, exact sums in Triton's interpreter, which has no such one."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

from __future__ import annotations

import os

import triton
import triton.language as tl

__all__ = ["INTEGERS", "INTERPRETED", "add_down", "add_up", "multiply_add_down"]

#: Kernels run in Triton's interpreter; as Triton itself, this looks once, when kernels are defined.
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET", "0") == "1")
#: float32 numbers within 2^22 of this one are integers.
INTEGERS = tl.constexpr(1.5 * 2**23)


@triton.jit
def multiply_add_down(x, y, total):
    """floor(x · y) + total of float32, ``total`` being an integer from 2^23 to 2^24 as the result is."""
    if INTERPRETED:
        # 24 by 24 bits are exact in float64.
        return (tl.floor(x.to(tl.float64) * y.to(tl.float64)) + total.to(tl.float64)).to(tl.float32)
    else:
        return tl.inline_asm_elementwise(
            "fma.rm.f32 $0, $1, $2, $3;", "=f,f,f,f", [x, y, total], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def _move(total, lost, towards: tl.constexpr):
    """The neighbour of sums, down or up, where that is the direction of what they have lost."""
    bits = total.to(tl.int64, bitcast=True)
    step = (tl.where(total > 0, 1, -1) * towards).to(tl.int64)
    return tl.where(lost * towards > 0, bits + step, bits).to(tl.float64, bitcast=True)


@triton.jit
def _lost(x, y, total):
    part = total - x
    return (x - (total - part)) + (y - part)


@triton.jit
def add_down(x, y):
    """x + y of float64 rounded down; far from either end of the exponent range."""
    if INTERPRETED:
        total = x + y
        return _move(total, _lost(x, y, total), -1)
    else:
        return tl.inline_asm_elementwise("add.rm.f64 $0, $1, $2;", "=d,d,d", [x, y], dtype=tl.float64, is_pure=True, pack=1)


@triton.jit
def add_up(x, y):
    """x + y of float64 rounded up; far from either end of the exponent range."""
    if INTERPRETED:
        total = x + y
        return _move(total, _lost(x, y, total), 1)
    else:
        return tl.inline_asm_elementwise("add.rp.f64 $0, $1, $2;", "=d,d,d", [x, y], dtype=tl.float64, is_pure=True, pack=1)

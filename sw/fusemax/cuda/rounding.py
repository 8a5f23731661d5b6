"""Arithmetic rounded down in Triton: one instruction on a GPU, exact sums in Triton's interpreter, which has no such one."""

# pyright: reportMissingImports=false

from __future__ import annotations

import os

import triton
import triton.language as tl

__all__ = ["INTEGERS", "INTERPRETED", "add_down", "multiply_add_down"]

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
def add_down(x, y):
    """x + y of float64 rounded down; the result must be positive and normal."""
    if INTERPRETED:
        total = x + y
        part = total - x
        lost = (x - (total - part)) + (y - part)
        bits = total.to(tl.int64, bitcast=True)
        return (bits - (lost < 0).to(tl.int64)).to(tl.float64, bitcast=True)
    else:
        return tl.inline_asm_elementwise("add.rm.f64 $0, $1, $2;", "=d,d,d", [x, y], dtype=tl.float64, is_pure=True, pack=1)

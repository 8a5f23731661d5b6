"""Sums and products that are rounded down and up, against rational numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from gpu_place import INTERPRETER, PLACE, torch

import triton  # isort: skip
import triton.language as tl  # isort: skip

from fusemax.cuda.rounding import add_down, add_up, multiply_add_down

pytestmark = INTERPRETER

COUNT = 256


@triton.jit
def add_both(x_ptr, y_ptr, down_ptr, up_ptr, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    x, y = tl.load(x_ptr + place), tl.load(y_ptr + place)
    tl.store(down_ptr + place, add_down(x, y))
    tl.store(up_ptr + place, add_up(x, y))


@triton.jit
def multiply_add(x_ptr, y_ptr, total_ptr, COUNT: tl.constexpr):
    place = tl.arange(0, COUNT)
    total = tl.load(total_ptr + place)
    tl.store(total_ptr + place, multiply_add_down(tl.load(x_ptr + place), tl.load(y_ptr + place), total))


def rounded(exact: Fraction, towards: float) -> float:
    """The float64 number next to a rational one, in the direction of an infinity."""
    near = float(exact)
    wrong = Fraction(near) < exact if towards > 0 else Fraction(near) > exact
    return float(np.nextafter(near, towards)) if wrong else near


def test_sums() -> None:
    random = np.random.default_rng(1)
    x, y = (random.standard_normal(COUNT) * 2.0 ** random.integers(-60, 60, COUNT) for _ in range(2))
    # Exact sums, and partial sums beside the number that makes them integers.
    x[:32], y[:32] = np.round(x[:32] * 64), 0.5
    x[32:64], y[32:64] = random.integers(-(1 << 40), 1 << 40, 32) / 512, 1.5 * 2.0**52
    down, up = (torch.zeros(COUNT, dtype=torch.float64, device=PLACE) for _ in range(2))
    add_both[(1,)](*(torch.from_numpy(array).to(PLACE) for array in (x, y)), down, up, COUNT=COUNT)
    exact = [Fraction(a) + Fraction(b) for a, b in zip(x, y, strict=True)]
    assert down.tolist() == [rounded(number, -np.inf) for number in exact]
    assert up.tolist() == [rounded(number, np.inf) for number in exact]


def test_products() -> None:
    random = np.random.default_rng(2)
    key = (random.integers(-255, 256, COUNT) * 2.0 ** random.integers(-30, 2, COUNT)).astype(np.float32)
    query = (random.integers(-(1 << 17), 1 << 17, COUNT) * 2.0 ** random.integers(-30, -3, COUNT)).astype(np.float32)
    key[:8], query[:8] = 0.5, np.arange(-4, 4)
    total = (1.5 * 2**23 + random.integers(-100, 100, COUNT)).astype(np.float32)
    found = torch.from_numpy(total.copy()).to(PLACE)
    multiply_add[(1,)](torch.from_numpy(key).to(PLACE), torch.from_numpy(query).to(PLACE), found, COUNT=COUNT)
    expected = [
        int(t) + (Fraction(float(k)) * Fraction(float(q))).__floor__() for k, q, t in zip(key, query, total, strict=True)
    ]
    assert found.tolist() == expected

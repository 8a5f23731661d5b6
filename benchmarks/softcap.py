"""What soft-capped scores, cap · tanh(s / cap), would cost in a PE: error of the weights by table, and slots.

    python benchmarks/softcap.py

A PE reads a table by the top bits of a number, and multiplies the rest, 18 bits, by a slope of 9 bits: one slot, as EXP does
for 2^f. tanh has no exponent that could be split off; the table covers |x| up to where tanh is one. Tables are fitted segment
by segment and rounded as a table in the PE would be, its values to 18 bits or more; a slope or a quadratic coefficient of more
than 9 bits takes a slot per 9 bits. The error is that of attention in float64 in which nothing but tanh is replaced.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fusemax.evaluation import exact

#: tanh is 1 within 2^-22 from here on.
END = 8.0
#: Slots that a slope of 9 bits takes; further ones for further bits.
SLOPE_BITS = 9
#: Relative L2 error of a head that may come from this alone: half of the budget.
BUDGET = 5e-5
CAP = 50.0

Numbers = NDArray[np.float64]


def fit(entries: int, degree: int, coefficient_bits: int, value_bits: int) -> Callable[[Numbers], Numbers]:
    """tanh by ``entries`` equal segments of [0, END], Chebyshev points, coefficients rounded; odd."""
    step = END / entries
    nodes = 0.5 - 0.5 * np.cos((2 * np.arange(degree + 1) + 1) * np.pi / (2 * degree + 2))
    starts = step * np.arange(entries)
    values = np.tanh(starts[:, None] + step * nodes)
    coefficients = np.linalg.solve(np.vander(nodes, increasing=True), values.T).T
    # The other entries have their bits below the largest one's leading bit.
    coefficients[:, 0] = np.round(coefficients[:, 0] * 2 ** (value_bits - 1)) / 2 ** (value_bits - 1)
    for power in range(1, degree + 1):
        unit = 2.0 ** (math.ceil(math.log2(np.abs(coefficients[:, power]).max())) - coefficient_bits + 1)
        coefficients[:, power] = np.round(coefficients[:, power] / unit) * unit

    def table(x: Numbers) -> Numbers:
        place = np.minimum(np.abs(x) / step, entries - 2.0**-30)
        index = place.astype(np.int64)
        rest = place - index
        result = np.zeros_like(rest)
        for power in range(degree, -1, -1):
            result = result * rest + coefficients[index, power]
        return np.sign(x) * np.minimum(result, 1)

    return table


def capped(scores: Numbers, tanh: Callable[[Numbers], Numbers]) -> Numbers:
    scores = CAP * tanh(scores / CAP)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attention_error(tanh: Callable[[Numbers], Numbers], spread: float) -> float:
    """Relative L2 error of 64 queries on 1024 keys whose scores have a standard deviation of ``spread``."""
    scores = np.random.default_rng(1).standard_normal((64, 1024)) * spread
    values = np.random.default_rng(2).standard_normal((1024, 64))
    return exact.relative_error(capped(scores, tanh) @ values, capped(scores, np.tanh) @ values)


def slots(degree: int, coefficient_bits: int, value_bits: int) -> int:
    """Products of 18 by 9 bits: each coefficient but the first, and the cap, 18 bits, for which a table has no room."""
    return degree * -(-coefficient_bits // SLOPE_BITS) + 2 * -(-value_bits // 18)


def main() -> int:
    print("| entries | degree | bits of values | of coefficients | slots | largest error of tanh | scores ±1 | scores ±12 |")
    print("|---|---|---|---|---|---|---|---|")
    x = np.linspace(0, END, 1 << 18)
    best = None
    for degree, bits, value_bits, sizes in (
        (1, 9, 18, (32, 256, 4096)),
        (1, 18, 18, (32, 256, 4096)),
        (2, 18, 18, (32, 64, 256)),
        (1, 18, 24, (1024, 4096)),
        (2, 18, 24, (64, 128, 256)),
    ):
        for entries in sizes:
            table = fit(entries, degree, bits, value_bits)
            largest = float(np.abs(table(x) - np.tanh(x)).max())
            errors = [attention_error(table, spread) for spread in (1.0, 12.0)]
            cost = slots(degree, bits, value_bits)
            print(
                f"| {entries} | {degree} | {value_bits} | {bits} | {cost} | {largest:.1e} | {errors[0]:.1e} | {errors[1]:.1e} |"
            )
            if max(errors) <= BUDGET and (best is None or (cost, entries) < best):
                best = cost, entries
    if best is None:
        print(f"\nNone stays within {BUDGET:.0e}.")
    else:
        print(f"\nWithin {BUDGET:.0e}: {best[0]} slots at least, with {best[1]} entries.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

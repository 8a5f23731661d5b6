"""Fit the table of 2^f in ``fusemax.arith.exp2``: prints its VALUES and SLOPES.

Every candidate (value, slope) of a segment is tried on all 2^20 fractions, rounding included; coarser fractions are a
subset. First the smallest error bound is found for which a monotone chain of segments exists, then, within a hair of that
bound, the chain with the smallest mean square error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from arguments import parser_of

FRAC_BITS = 20
SEGMENTS = 32
RESTS = np.arange(1 << FRAC_BITS - 5, dtype=np.int64)


def candidates(segment: int) -> list[tuple[float, float, int, int, int, int]]:
    """(largest error, mean square, first mantissa, last mantissa, value, slope) of every table entry worth trying."""
    exact = 2.0 ** (segment / SEGMENTS + RESTS / 2.0**FRAC_BITS)
    secant = SEGMENTS * (exact[0] * 2 ** (1 / SEGMENTS) - exact[0]) * 256
    found = []
    for slope in range(math.floor(secant) - 2, math.floor(secant) + 4):
        placed = (RESTS * slope >> FRAC_BITS + 8 - 17 - 1) + 1 >> 1
        for value in range(round(exact[0] * 2**17) - 12, round(exact[0] * 2**17) + 14):
            mantissa = value + placed >> 1
            error = mantissa / 65536 / exact - 1
            found.append((np.abs(error).max(), np.square(error).mean(), int(mantissa[0]), int(mantissa[-1]), value, slope))
    return found


def chain(table: list[list[tuple[float, float, int, int, int, int]]], bound: float) -> list[tuple[int, int]] | None:
    """Monotone sequence of entries within ``bound`` with the smallest sum of mean squares, or None."""
    paths: dict[int, tuple[float, list[tuple[int, int]]]] = {65536: (0.0, [])}  # by last mantissa
    for entries in table:
        longer: dict[int, tuple[float, list[tuple[int, int]]]] = {}
        for error, square, first, last, value, slope in entries:
            if error > bound or last >= 1 << 17:
                continue
            costs = [(cost, path) for end, (cost, path) in paths.items() if end <= first]
            if costs:
                cost, path = min(costs, key=lambda item: item[0])
                if last not in longer or cost + square < longer[last][0]:
                    longer[last] = (cost + square, [*path, (value, slope)])
        paths = longer
    return min(paths.values(), key=lambda item: item[0])[1] if paths else None


def main(arguments: Sequence[str] | None = None) -> int:
    parser_of(__doc__).parse_args(arguments)
    table = [candidates(segment) for segment in range(SEGMENTS)]
    bounds = sorted({entry[0] for entries in table for entry in entries if entry[0] < 1e-4})
    low, high = 0, len(bounds) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if chain(table, bounds[middle]) else (middle + 1, high)
    best = chain(table, max(bounds[low], 5.8e-5))
    if best is None:
        raise RuntimeError("no monotone table with 32 entries")
    print(f"# smallest bound {bounds[low]:.3e}")
    print(f"VALUES = {tuple(value for value, _ in best)}")
    print(f"SLOPES = {tuple(slope for _, slope in best)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Random calls in which everything that a query may not see is replaced, and the bits that must stay."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
from attention_problems import Problem
from hypothesis import strategies as st
from pytest import approx

import fusemax
from fusemax import State

__all__ = ["cases", "check", "decoding", "one_visible_key", "table"]

#: bfloat16 bits that are dear to nobody: neighbours of infinity and NaN, 2^127, the smallest numbers, subnormals, zeros.
EXTREMES = np.array([0x7F7F, 0xFF7F, 0x7F00, 0xFF00, 0x7F01, 0x0080, 0x8080, 0x0001, 0x807F, 0x0000, 0x8000], np.uint16)
TIMEOUT_S = 120.0


def hidden_values(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Finite bfloat16 numbers of any bits, among them many of :data:`EXTREMES`."""
    kind = random.integers(3)
    if kind == 0:
        bits = random.choice(EXTREMES, shape)
    elif kind == 1:
        bits = np.full(shape, random.choice(EXTREMES), np.uint16)
    else:
        bits = random.integers(0, 0x7F80, shape) | random.integers(0, 2, shape) << 15
    return bits.astype(np.uint16).view(ml_dtypes.bfloat16)


@st.composite
def cases(draw: st.DrawFn, problems: st.SearchStrategy[Problem]) -> tuple[Problem, tuple[int, ...], int]:
    """A problem, one of its query rows, and a seed for what replaces the rest."""
    problem = draw(problems)
    row = tuple(draw(st.integers(0, size - 1)) for size in (*problem.query_leading, problem.queries))
    return problem, row, draw(st.integers(0, 1 << 16))


def replaced(problem: Problem, row: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """The problem's arrays, of which only the query row and the keys and values that it sees are as they were.

    Scores of other queries stay in their range: those queries, and the keys that they see, are changed to other tame ones.
    """
    random = np.random.default_rng((seed, 1))
    q, k, v = (array.copy() for array in problem.arrays())
    *leading, query = row
    key_row = (*leading[:-1], leading[-1] // problem.share) if leading else ()
    entry = int(np.ravel_multi_index(leading[:-1], problem.leading[:-1])) if len(leading) > 1 else 0
    visible = problem.visible(entry, query, leading[-1] if leading else 0)

    others = Problem(**{**vars(problem), "seed": problem.seed ^ 0x5A5A}).arrays()
    own_query, own_keys, own_values = q[row].copy(), k[key_row][visible].copy(), v[key_row][visible].copy()
    q[...], k[...] = others[0] * random.choice([0.25, 1]), others[1]
    v[...] = hidden_values(random, v.shape)
    for index in np.ndindex(*problem.leading[:-1]):
        number = int(np.ravel_multi_index(index, problem.leading[:-1])) if index else 0
        seen = np.any([problem.visible(number, each) for each in range(problem.queries)], axis=0)
        nobody = k[index][..., ~seen, :]
        k[index][..., ~seen, :] = hidden_values(random, nobody.shape)
    q[row] = own_query
    k[key_row][visible], v[key_row][visible] = own_keys, own_values
    return [q, k, v]


def row_bits(result: Any, row: tuple[int, ...]) -> list[np.ndarray]:
    """Bits of a query row in everything that a call has given: output, log-sum-exp, state."""
    arrays: list[np.ndarray] = []
    for part in result if isinstance(result, tuple) else (result,):
        arrays += [part.max, part.denominator, part.numerator] if isinstance(part, State) else [part]
    return [np.ascontiguousarray(array[row]).view(f"u{array.itemsize}") for array in arrays]


def check(case: tuple[Problem, tuple[int, ...], int], device: fusemax.Device) -> int:
    """Run the call as it is, with everything replaced that the row may not see, and as it is again.

    Returns
    -------
    Elements of the other rows' outputs that changed.

    Raises
    ------
    AssertionError
        If a bit of the row is another one.
    """
    problem, row, seed = case
    first = problem.run(device, timeout=TIMEOUT_S)
    other = problem.run(device, replaced(problem, row, seed), timeout=TIMEOUT_S)
    again = problem.run(device, timeout=TIMEOUT_S)
    for name, result in (("with the rest replaced", other), ("after another call", again)):
        for before, after in zip(row_bits(first, row), row_bits(result, row), strict=True):
            np.testing.assert_array_equal(after, before, err_msg=f"{name}: row {row}, seed {seed} of {problem}")
    outs = [np.asarray(result[0] if isinstance(result, tuple) else result) for result in (first, other)]
    return int((outs[0].view(f"u{outs[0].itemsize}") != outs[1].view(f"u{outs[1].itemsize}")).sum())


# -- what was wrong once ----------------------------------------------------------------------------------------------------


def table(device: fusemax.Device) -> None:
    """Calls in which rows that do not count once decided how finely the others were summed."""

    def first(q: Any, k: Any, v: Any, row: int = 0, **options: Any) -> float:
        arrays = (np.array(x, np.float32) for x in (q, k, v))
        return float(fusemax.attention(*arrays, device=device, out_dtype="float32", **options)[row, 0])

    near = {"rel": 2e-7, "abs": 0}
    zeros = [[0.0], [0.0]]
    # A later key, that the first query does not see.
    assert first(zeros, zeros, [[1.0], [1e10]], causal=True) == approx(1.0, **near)
    assert first(zeros, zeros, [[1.5], [2.0**127]], causal=True) == approx(1.5, **near)
    assert first(zeros, zeros, [[-1.5], [-(2.0**-126)]], causal=True) == approx(-1.5, **near)
    # A key of next to no weight: e^-50 · 2^40 is 2e-10.
    assert first([[1.0]], [[0.0], [-50.0]], [[1.1], [2.0**40]], scale=1.0) == approx(1.1015625, rel=4e-7)
    # A key in front of the window.
    values = [[1e30], *[[1.1]] * 3]
    assert first([[0.0]], [[0.0]] * 4, values, window=(2, 0), query_offset=3) == approx(1.1015625, rel=4e-7)
    # Tiny values first, then huge ones: every query's mean is right, to within the weights' precision.
    random = np.random.default_rng(5)
    powers = np.repeat([2.0**-100, 2.0**100], 8)[:, None]
    v = (random.standard_normal((16, 4)) * powers).astype(ml_dtypes.bfloat16)
    still = np.zeros((16, 1), np.float32)
    got = fusemax.attention(still, still, v, device=device, out_dtype="float32", causal=True)
    mean = np.cumsum(v.astype(np.float64), 0) / np.arange(1, 17)[:, None]
    scale = np.cumsum(np.abs(v.astype(np.float64)), 0) / np.arange(1, 17)[:, None]
    assert (np.abs(got - mean) <= 4e-7 * scale).all()


def one_visible_key(device: fusemax.Device, seed: int) -> None:
    """A query that sees one key: the same bits whatever stands beside it, and that key's value."""
    random = np.random.default_rng(seed)
    keys, e, f = int(random.integers(2, 4 * device.config.rows)), 4, 5
    q = random.standard_normal((keys, e)).astype(np.float32)
    k = random.standard_normal((keys, e)).astype(ml_dtypes.bfloat16)
    v = (random.standard_normal((keys, f)) * 2.0 ** random.integers(-100, 100, (keys, f))).astype(ml_dtypes.bfloat16)
    options = {"device": device, "out_dtype": "float32"}
    result = fusemax.attention(q, k, v, window=(0, 0), **options)
    exact = v.astype(np.float64)
    assert (np.abs(result - exact) <= 2e-7 * np.abs(exact)).all()
    for row in random.integers(0, keys, 4):
        beside = hidden_values(random, v.shape)
        beside[row] = v[row]
        one = q[row : row + 1]
        alone = fusemax.attention(one, k, beside, window=(0, 0), query_offset=int(row), **options)
        np.testing.assert_array_equal(alone[0].view(np.uint32), result[row].view(np.uint32))


def decoding(device: fusemax.Device, tokens: int = 64) -> None:
    """Token by token from a paged cache, two sequences side by side, gives the bits of the prompts as a whole and in chunks."""
    heads, share, e, f, page_size = 2, 2, 12, 5, 2 * device.config.rows
    random = np.random.default_rng(8)
    q, k, v = (
        random.standard_normal((2, count, tokens, elements)).astype(ml_dtypes.bfloat16)
        for count, elements in ((heads * share, e), (heads, e), (heads, f))
    )
    v *= np.exp(3 * random.standard_normal((2, heads, tokens, 1))).astype(ml_dtypes.bfloat16)
    options = {"out_dtype": "float32", "causal": True}
    whole = fusemax.attention(q, k, v, device=device, **options)
    decoded, chunks = np.empty_like(whole), np.empty_like(whole)
    pages = 2 * -(-tokens // page_size)
    with fusemax.KVCache(device, heads=heads, e=e, f=f, page_size=page_size, pages=pages) as cache:
        for sequence in range(2):
            cache.allocate(sequence)
        for token in range(tokens):
            now = slice(token, token + 1)
            for sequence in range(2):
                cache.append(sequence, k[sequence, :, now], v[sequence, :, now])
            decoded[:, :, now] = cache.attend(q[:, :, now], range(2), **options)
    np.testing.assert_array_equal(decoded.view(np.uint32), whole.view(np.uint32))
    cuts = sorted({0, 1, tokens // 3, min(tokens, tokens // 3 + 7), tokens})
    for start, stop in pairwise(cuts):
        part = fusemax.attention(
            q[:, :, start:stop], k[:, :, :stop], v[:, :, :stop], device=device, query_offset=start, **options
        )
        chunks[:, :, start:stop] = part
    np.testing.assert_array_equal(chunks.view(np.uint32), whole.view(np.uint32))

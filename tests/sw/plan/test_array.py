"""The array as plans use it: bfloat16 parts, sums of weighted values, and matrix products against an identity."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.compiler.functions import WEIGHT_FUNCTIONS
from fusemax.errors import MissingOptionError
from fusemax.evaluation.exact import relative_error
from fusemax.plan.array import Array, array_of
from fusemax.plan.parts import bfloat16, parts_of
from fusemax.plan.programs import SWEEP_FUNCTIONS


@pytest.fixture(scope="module")
def array() -> Iterator[Array]:
    with fusemax.open("model", "tiny") as device:
        yield Array(device)


def test_parts_sum_to_the_number() -> None:
    random = np.random.default_rng(0)
    numbers = random.standard_normal(1000) * 2.0 ** random.integers(-30, 30, 1000)
    for most in (1, 2, 3):
        parts = parts_of(numbers, most)
        assert len(parts) == most
        assert np.abs(sum(parts) / numbers - 1).max() <= 2.0 ** (-8 * most)
        for part in parts:
            np.testing.assert_array_equal(part, part.astype(ml_dtypes.bfloat16).astype(np.float64))
    assert len(parts_of(bfloat16(numbers), 3)) == 1
    assert len(parts_of(np.zeros(3), 3)) == 1


@pytest.mark.parametrize(("rows", "inner"), [(64, 100), (100, 64), (100, 40), (40, 100), (3, 3), (1, 5), (5, 1)])
@pytest.mark.parametrize(("parts", "most"), [(1, 3e-3), (2, 4e-5)])
def test_product(array: Array, rows: int, inner: int, parts: int, most: float) -> None:
    random = np.random.default_rng((rows, inner))
    left = random.random((2, rows, inner)) * 2.0 ** random.integers(-20, 20, (2, rows, inner))
    right = random.standard_normal((2, inner, 70))
    left[0, 0] = 0
    found = array.product(left, right, parts)
    assert relative_error(found, left @ right) <= most
    assert (found[0, 0] == 0).all()


@pytest.mark.parametrize(("rows", "inner"), [(64, 100), (100, 64), (3, 3), (1, 70)])
@pytest.mark.parametrize(("parts", "most"), [(1, 3e-3), (2, 2e-5)])
def test_signed_product(rows: int, inner: int, parts: int, most: float) -> None:
    random = np.random.default_rng((rows, inner))
    left, right = random.standard_normal((2, rows, inner)), random.standard_normal((2, inner, 70))
    left *= 2.0 ** random.integers(-20, 20, (2, rows, 1))
    left[0, 0] = 0
    with array_of(None) as functions:
        found = functions.product(left, right, parts)
    for row, expected in zip(found.reshape(-1, 70), (left @ right).reshape(-1, 70), strict=True):
        assert np.linalg.norm(row - expected) <= most * 2 * np.linalg.norm(expected)
    assert (found[0, 0] == 0).all()


def test_signed_product_needs_an_option(array: Array) -> None:
    with pytest.raises(MissingOptionError, match="identity needs the option linear, which 'tiny' does not have"):
        array.product(np.array([[1.0, -1.0]]), np.ones((2, 1)))


@pytest.mark.parametrize("function", SWEEP_FUNCTIONS)
@pytest.mark.parametrize("normalised", [False, True])
def test_weighted(function: str, normalised: bool) -> None:
    """Weights that are a function of the score, with more values than fit into a sweep."""
    if function == "identity" and normalised:
        pytest.skip("a lane does not divide by a sum of weights with both signs")
    random = np.random.default_rng(3)
    q, k, v = (bfloat16(random.standard_normal(shape)) for shape in ((2, 21, 16), (2, 33, 16), (2, 33, 130)))
    with array_of(None) as functions:
        found = functions.weighted(function, q, k, v, 0.25, normalised=normalised, causal=True)
    weights = WEIGHT_FUNCTIONS[function].compute(0.25 * q @ k.swapaxes(-1, -2)) * np.tril(np.ones((21, 33)))
    total = weights.sum(-1, keepdims=True)
    assert relative_error(found, weights @ v / (np.where(total > 0, total, 1) if normalised else 1)) <= 9e-5


def test_sums(array: Array) -> None:
    """Weights and values as they are, and queries that see no key."""
    random = np.random.default_rng(1)
    q, k, v = (bfloat16(random.standard_normal(shape)) for shape in ((3, 9, 8), (3, 12, 8), (3, 12, 70)))
    sums = array.sums(q, k, v, 0.5, causal=True, query_offset=-2)
    weights = np.exp(0.5 * q @ k.swapaxes(-1, -2)) * (np.arange(9)[:, None] - 2 >= np.arange(12))
    assert relative_error(sums.total, weights @ v) <= 5e-5
    with np.errstate(divide="ignore"):
        np.testing.assert_allclose(sums.lse, np.log(weights.sum(-1)), atol=1e-4)
    assert (sums.denominator[:, :2] == 0).all()
    assert (sums.reference[:, :2] == 0).all()
    assert (sums.mean[:, :2] == 0).all()


def test_counters_of_every_sweep() -> None:
    counters: list[fusemax.Counters] = []
    with array_of(None, counters) as opened:
        assert opened.config.name == "base_functions"
        # 130 columns of values take two sweeps.
        opened.sums(np.ones((4, 4)), np.ones((4, 4)), np.ones((4, 130)))
    assert [c.tiles for c in counters] == [1, 1]
    assert counters[0].cycles != counters[1].cycles

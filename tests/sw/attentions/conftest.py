"""A model device with all options for all tests here, and random queries, keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.plan.array import DEFAULT


@pytest.fixture(scope="session")
def device() -> Iterator[fusemax.Device]:
    with fusemax.open("model", DEFAULT, memory_bytes=1 << 28) as opened:
        yield opened


@pytest.fixture
def qkv() -> Callable[..., list[Any]]:
    """Makes q, k and v of equal length, bfloat16, normally distributed, from three seeds.

    ``peak`` is the standard deviation of the queries. With 4, scores are as far apart as those of trained heads; with 1,
    weights are nearly equal, and the rounding of each is the error of the result.
    """

    def make(
        length: int, e: int = 64, f: int | None = None, leading: tuple[int, ...] = (), seed: int = 0, peak: float = 1.0
    ) -> list[Any]:
        sizes, factors = (e, e, e if f is None else f), (peak, 1.0, 1.0)
        randoms = [
            np.random.default_rng((seed, number)).standard_normal((*leading, length, sizes[number])) for number in range(3)
        ]
        return [(x * factor).astype(ml_dtypes.bfloat16) for x, factor in zip(randoms, factors, strict=True)]

    return make

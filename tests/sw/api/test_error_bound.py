"""The bound of a result's error: that it holds where errors are largest, what it is made of, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from attention_reference import reference

import fusemax
from fusemax.spec import CONFIGS

Array = np.ndarray


def normal(*shape: int, seed: int = 0, size: float = 1.0) -> Array:
    return size * np.random.default_rng(seed).standard_normal(shape, np.float32)


def half_steps() -> tuple[Array, ...]:
    """Every product is half a step of the grid, and is rounded up."""
    return np.ones((1, 64), np.float32), np.stack([np.full(64, 2.0**-17), np.zeros(64)]).astype(np.float32), normal(2, 3)


def near_scores(middle: float) -> tuple[Array, ...]:
    """Scores that hardly differ, far from 0."""
    q, k = normal(9, 64, seed=1), normal(40, 64, seed=2, size=2**-9)
    q[:, 0], k[:, 0] = 8, middle / 8
    return q, k, normal(40, 5, seed=3)


CASES: dict[str, tuple[tuple[Array, ...], dict[str, Any]]] = {
    "normal": ((normal(30, 64), normal(70, 64, seed=1), normal(70, 20, seed=2)), {}),
    "half steps": (half_steps(), {"scale": np.log(2)}),
    "nearly equal scores of 100": (near_scores(100), {"scale": 1.0}),
    "nearly equal scores of 1000": (near_scores(1000), {"scale": 1.0}),
    "values of many sizes": ((normal(9, 8), normal(60, 8, seed=1), np.exp(3 * normal(60, 9, seed=2))), {"causal": True}),
    "values that cancel": ((normal(9, 8, size=0.01), normal(64, 8), 1000 + normal(64, 3)), {}),
    "biases": (
        (normal(9, 16), normal(30, 16, seed=1), normal(30, 4)),
        {"bias": normal(9, 30, size=9), "temperature": np.linspace(0.5, 2, 9).tolist()},
    ),
    "slopes": ((normal(2, 9, 16), normal(2, 30, 16), normal(2, 30, 4)), {"alibi_slopes": [0.3, -0.7], "causal": True}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("out_dtype", ["float32", "bfloat16"])
def test_no_result_is_further_away(name: str, out_dtype: str) -> None:
    arrays, options = CASES[name]
    with fusemax.open("model", "small") as device:
        out = fusemax.attention(*arrays, device=device, out_dtype=out_dtype, **options)
    exact = reference(*arrays, **options).out
    bound = fusemax.error_bound(*arrays, config="small", out_dtype=out_dtype, **options)
    assert bound.shape == out.shape
    assert np.isfinite(bound).all()
    assert (np.abs(out.astype(np.float64) - exact) <= bound).all()


def test_half_steps_are_as_wrong_as_the_bound_says() -> None:
    """The error is the bound's, but for what the other steps may add."""
    arrays, options = CASES["half steps"]
    with fusemax.open("model", "small") as device:
        out = fusemax.attention(*arrays, device=device, out_dtype="float32", **options)
    error = np.abs(out - reference(*arrays, **options).out)
    assert (error >= 0.2 * fusemax.error_bound(*arrays, config="small", out_dtype="float32", **options)).any()


def test_more_fraction_bits_make_it_smaller() -> None:
    arrays, _ = CASES["normal"]
    finer = replace(CONFIGS["small"], name="finer", score_bits=34, score_frac_bits=20)
    bounds = [fusemax.error_bound(*arrays, config=config, out_dtype="float32") for config in (CONFIGS["small"], finer)]
    assert (bounds[1] < 0.3 * bounds[0]).all()


def test_queries_that_see_no_key_have_none() -> None:
    x = normal(5, 8)
    bound = fusemax.error_bound(x, x, x, causal=True, query_offset=-2)
    assert not bound[:2].any()
    assert bound[2:].all()


@pytest.mark.parametrize("options", [{"softcap": 3.0}, {"sink": [0.5]}])
def test_what_is_refused(options: dict[str, Any]) -> None:
    x = normal(5, 8)
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must not be given: the bound is of what one sweep of the machine computes"):
        fusemax.error_bound(x, x, x, **options)
    with pytest.raises(TypeError, match=r"error_bound\(\) got an unexpected keyword argument 'is_causal'.* causal here"):
        fusemax.error_bound(x, x, x, is_causal=True)  # type: ignore[call-arg]

"""Masks, shared heads, states and scales, all combined, on the model device against float64."""

from __future__ import annotations

import os

import numpy as np
import pytest
from attention_problems import MACHINES, Problem, check, problems
from hypothesis import HealthCheck, given, settings

#: Random calls; ``make regress`` runs 2000.
PROBLEMS = int(os.environ.get("FUSEMAX_PROBLEMS", "200"))


#: Every option by itself and some together, for two batch entries of four query heads, 13 queries and 37 keys.
FEATURES: dict[str, dict] = {
    "plain": {},
    "causal": {"causal": True},
    "causal_before_the_keys": {"causal": True, "query_offset": -6},
    "causal_behind_the_keys": {"causal": True, "query_offset": 1000},
    "causal_at_the_end": {"causal": True, "query_offset": 24, "return_lse": True},
    "offset_per_entry": {"causal": True, "query_offset": [-13, 30], "return_lse": True},
    "window": {"window": (3, 2), "query_offset": 5},
    "own_place_only": {"window": (0, 0), "query_offset": -4, "return_lse": True},
    "left_window": {"window": (4, -1), "query_offset": 20},
    "right_window": {"window": (-1, 4), "query_offset": -2},
    "key_lengths": {"key_lengths": [0, 31], "return_lse": True},
    "one_key": {"key_lengths": 1},
    "key_start": {"key_start": [37, 7], "return_lse": True},
    "key_start_and_window": {"key_start": 11, "key_lengths": [30, 9], "window": (4, 1), "query_offset": 3},
    "prefix": {"prefix": 5, "causal": True, "query_offset": -20},
    "prefix_and_window": {"prefix": [3, 17], "window": (2, 1), "query_offset": 18},
    "prefix_beyond_the_keys": {"prefix": 99, "window": (2, 1)},
    "all_masks": {"causal": True, "window": (6, 3), "prefix": [2, 0], "key_lengths": [30, 9], "query_offset": [16, -3]},
    "all_masks_and_key_start": {
        "causal": True,
        "window": (6, 3),
        "prefix": [14, 0],
        "key_lengths": [30, 35],
        "query_offset": [16, 20],
        "key_start": [9, 21],
    },
    "no_scale": {"scale": [0.1, 0.0, 0.3, 0.0], "alibi_slopes": [0.0, 0.5, 0.0, 0.0], "causal": True},
    "scales": {"scale": [0.1, -0.2, 0.3, 0.05]},
    "temperatures": {"temperature": np.linspace(0.4, 3, 13).tolist(), "causal": True},
    "alibi": {"alibi_slopes": [-0.5, -0.25, 0.0, 1.0], "causal": True, "query_offset": 24, "return_lse": True},
    "alibi_inexact": {"alibi_slopes": [-0.3, 0.1, -0.7, 0.01], "return_state": True},
    "alibi_and_key_start": {"alibi_slopes": [-0.3, 0.1, -0.7, 0.01], "key_start": [5, 30], "return_lse": True},
    "sinks": {"sink": [0.0, 3.0, -60.0, -np.inf], "causal": True, "query_offset": -3, "return_lse": True},
    "state": {"return_state": True, "return_lse": True, "out_dtype": "float32"},
}


@pytest.mark.parametrize("layout", ["heads", "length"])
@pytest.mark.parametrize("share", [1, 2, 4])
@pytest.mark.parametrize("options", FEATURES.values(), ids=FEATURES)
def test_each_feature(options: dict, share: int, layout: str) -> None:
    for number, config in enumerate(MACHINES):
        problem = Problem(
            config=config,
            seed=number,
            leading=(2, 4 // share),
            share=share,
            queries=13,
            keys=37,
            e=8,
            f=4 if number % 2 else 5,
            in_dtype="bfloat16" if number % 3 else "float32",
            layout=layout,
            initial=7 if number % 2 else None,
            options=options,
        )
        check(problem)


@settings(max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(problems())
def test_against_float64(problem: Problem) -> None:
    check(problem)

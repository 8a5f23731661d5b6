"""Masks, shared heads, states and scales, all combined, on the model device against float64."""

from __future__ import annotations

import os

from attention_problems import Problem, check, problems
from hypothesis import HealthCheck, given, settings

#: Random calls; ``make regress`` runs 2000.
PROBLEMS = int(os.environ.get("FUSEMAX_PROBLEMS", "200"))


@settings(max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(problems())
def test_against_float64(problem: Problem) -> None:
    check(problem)

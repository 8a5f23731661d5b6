"""What a query gets depends on what it may see and on nothing else: on the model device, and how exact it is."""

from __future__ import annotations

import os

import ml_dtypes
import numpy as np
import pytest
from attention_problems import MACHINES, Problem, problems
from hypothesis import HealthCheck, given, settings
from isolation import cases, check, decoding, one_visible_key, table

import fusemax
from fusemax.spec import CONFIGS, Config

#: Random calls; ``make regress`` runs 2000.
PROBLEMS = int(os.environ.get("FUSEMAX_PROBLEMS", "200"))


@pytest.fixture(scope="module", params=MACHINES)
def device(request: pytest.FixtureRequest):
    with fusemax.open("model", MACHINES[request.param], memory_bytes=1 << 22) as opened:
        yield opened


def test_nothing_that_a_query_may_not_see_counts(devices: dict[str, fusemax.Device]) -> None:
    changed = []

    @settings(max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(cases(problems()))
    def compare(case: tuple[Problem, tuple[int, ...], int]) -> None:
        changed.append(check(case, devices[case[0].config]))

    compare()
    # The replaced numbers do reach the machine: most calls have rows that see them.
    assert np.count_nonzero(changed) > len(changed) / 2


def test_calls_that_were_wrong_once(device: fusemax.Device) -> None:
    table(device)


def test_one_visible_key(device: fusemax.Device) -> None:
    for seed in range(8):
        one_visible_key(device, seed)


def test_decoding_is_prefill(device: fusemax.Device) -> None:
    decoding(device, tokens=64 if device.config.name == "tiny" else 20)


# -- how exact -----------------------------------------------------------------------------------------------------------


def normal(seed: int, *shape: int, factor: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * factor).astype(ml_dtypes.bfloat16)


def values(seed: int, keys: int, f: int, spread: str) -> np.ndarray:
    random = np.random.default_rng(seed)
    v = random.standard_normal((keys, f))
    if spread == "outlier column":
        v[:, f // 2] *= 1000
    elif spread == "lognormal":
        v *= np.exp(3 * random.standard_normal((keys, 1)))
    elif spread == "small, then large":
        v[: keys // 2] *= 2.0**-100
        v[keys // 2 :] *= 2.0**100
    elif spread == "mixed":
        v *= 2.0 ** random.uniform(-100, 100, (keys, f))
    return v.astype(ml_dtypes.bfloat16)


#: Queries, keys, head dim, factor of the queries, values, causal; the largest relative L2 error of float32 results, times 1e-5:
#: what the sums on the largest value's grid gave, which did not isolate.
FAMILIES = {
    "normal": (128, 1024, 64, 1, "normal", False, 3.32),
    "peaked": (128, 1024, 64, 4, "normal", False, 2.00),
    "outlier column": (128, 1024, 64, 1, "outlier column", False, 2.00),
    "lognormal rows": (128, 1024, 64, 1, "lognormal", False, 2.69),
    "large scores": (128, 1024, 64, 12, "normal", False, 1.34),
    "causal": (512, 512, 64, 1, "normal", True, 2.80),
    "causal, lognormal rows": (512, 512, 64, 1, "lognormal", True, 2.65),
    "causal, small, then large": (256, 256, 64, 1, "small, then large", True, 2.94),
    "mixed": (128, 1024, 64, 1, "mixed", False, 3.18),
    "E 128": (128, 1024, 128, 1, "normal", False, 4.02),
}
#: The figures are rounded.
ROUNDING = 0.015


def errors(got: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, causal: bool) -> tuple[float, np.ndarray]:
    """Relative L2 error, of all and of every row."""
    q, k, v = (array.astype(np.float64) for array in (q, k, v))
    scores = q @ k.T / np.sqrt(q.shape[1])
    if causal:
        scores[np.arange(len(k)) > np.arange(len(q))[:, None]] = -np.inf
    weights = np.exp(scores - scores.max(1, keepdims=True))
    exact = weights @ v / weights.sum(1, keepdims=True)
    return (
        float(np.linalg.norm(got - exact) / np.linalg.norm(exact)),
        np.linalg.norm(got - exact, axis=1) / np.linalg.norm(exact, axis=1),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_errors(family: str) -> None:
    queries, keys, e, factor, spread, causal, most = FAMILIES[family]
    q, k, v = normal(1, queries, e, factor=factor), normal(2, keys, e), values(3, keys, e, spread)
    with fusemax.open("model", CONFIGS["base"]) as opened:
        got = fusemax.attention(q, k, v, device=opened, out_dtype="float32", causal=causal)
    error, of_rows = errors(got, q, k, v, causal)
    assert error <= (most + ROUNDING) * 1e-5, error
    assert of_rows.max() < 2.0**-9, of_rows.max()


@pytest.mark.parametrize("rows", [2, 4, 16, 256])
def test_no_row_of_lognormal_values_is_far_off(rows: int) -> None:
    config = Config(rows=rows, columns=16)
    q, k, v = normal(4, 256, 64), normal(5, 2048, 64), values(6, 2048, 64, "lognormal")
    with fusemax.open("model", config) as opened:
        got = fusemax.attention(q, k, v, device=opened, out_dtype="float32")
    assert errors(got, q, k, v, False)[1].max() < 2.0**-9

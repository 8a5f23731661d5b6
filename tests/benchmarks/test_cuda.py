"""The page docs/measurements/cuda.md: made of the committed results, which keep what is promised."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def cuda(script):
    return script("cuda")


def test_the_page_is_of_the_results(cuda) -> None:
    assert cuda.PAGE.read_text(encoding="utf-8") == cuda.page(json.loads(cuda.RESULTS.read_text(encoding="utf-8")))


def test_results_keep_their_promise(cuda) -> None:
    result = json.loads(cuda.RESULTS.read_text(encoding="utf-8"))
    found, problems = result["timed"], result["problems"]
    assert (found["config"], found["queries"], found["keys"], found["head_dim"]) == ("base", 4096, 4096, 64)
    assert problems["different"] == found["different"] == 0 and problems["compared"] > 100_000
    assert found["macs_per_second"] >= 1e12 and found["times_numpy"] >= 2000
    for name in ("device", "torch", "triton", "command"):
        assert result[name]

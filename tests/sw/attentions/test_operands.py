"""What people pass to the functions: lists and other formats give the bits of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fusemax

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "flow": fusemax.flow_attention,
    "calibrated": lambda *qkv, **to: fusemax.calibrated_attention(*qkv, heads=[0], **to),
    "sigmoid": fusemax.sigmoid_attention,
    "elu": fusemax.elu_attention,
    "linear": lambda *qkv, **to: fusemax.linear_attention(*qkv, kernel="elu1", causal=True, **to),
    "entropy": lambda *qkv, **to: fusemax.attention_entropy(*qkv, **to).entropy,
    "sink rate": lambda q, k, v, **to: fusemax.sink_rate(q, k, **to).alpha,
    "biased": lambda *qkv, **to: fusemax.biased_attention(*qkv, k_bias=np.ones((2, 16)), **to),
    "routing": lambda *qkv, **to: fusemax.routing_attention(*qkv, np.eye(16)[None, :3].repeat(2, 0), window=5, **to),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_formats(device, qkv, name: str) -> None:
    """Numbers that bfloat16 has: as that, as float64, as float16, as lists."""
    arrays = [x.astype(np.float16).astype(x.dtype) for x in qkv(20, e=16, leading=(2,))]
    expected = np.asarray(FUNCTIONS[name](*arrays, device=device))
    for convert in (
        lambda x: x.astype(np.float64),
        lambda x: x.astype(np.float16),
        lambda x: x.astype(np.float64).tolist(),
    ):
        np.testing.assert_array_equal(np.asarray(FUNCTIONS[name](*map(convert, arrays), device=device)), expected)


def test_integers_are_refused(device) -> None:
    with pytest.raises(TypeError, match="q must be of bfloat16, float16, float32 or float64 numbers, not int64"):
        fusemax.sigmoid_attention(*[np.ones((3, 4), np.int64)] * 3, device=device)
    with pytest.raises(ValueError, match=r"k must have at least one element, not shape \(0, 4\)"):
        fusemax.flow_attention(*[np.ones((count, 4)) for count in (3, 0, 0)], device=device)

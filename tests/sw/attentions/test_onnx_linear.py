"""ONNX's cases of linear attention that :func:`fusemax.linear_attention` is in reach of; the others need a delta rule."""

from __future__ import annotations

import numpy as np
from onnx_cases import OnnxCase, onnx_cases

import fusemax
from fusemax.evaluation.exact import relative_error

NAMED = (("query", "key", "value", "past_state", "decay", "beta"), ("output", "present_state"))

#: By the rule of updates; what is not here corrects each value by what the state already says of its key.
IN_REACH = {
    "test_linear_attention_linear",
    "test_linear_attention_linear_t1_no_past",
    "test_linear_attention_gated",
    "test_linear_attention_gated_per_head_decay",
}


def heads_of(array: np.ndarray, heads: int) -> np.ndarray:
    """(batch, length, heads · size) as (batch, heads, length, size)."""
    return array.reshape(*array.shape[:2], heads, -1).swapaxes(1, 2)


def operands(case: OnnxCase) -> list[np.ndarray]:
    """A decay makes a key's weight smaller from token to token: it is a factor of queries, and its inverse one of keys."""
    query_heads, key_heads = case.attributes["q_num_heads"], case.attributes["kv_num_heads"]
    names = ("query", query_heads), ("key", key_heads), ("value", key_heads)
    q, k, v = (heads_of(case.inputs[name], heads) for name, heads in names)
    if "decay" in case.inputs:
        decay = np.cumsum(heads_of(case.inputs["decay"], key_heads).astype(np.float64), axis=-2)
        q = (q * np.exp(np.repeat(decay, query_heads // key_heads, axis=1))).astype(np.float32)
        k = (k * np.exp(-decay)).astype(np.float32)
    return [q, k, v]


def test_cases(device) -> None:
    """Within what rounding queries, keys and values to bfloat16 does: half a unit in the last place of each factor."""
    cases = onnx_cases("linear_attention", "LinearAttention", NAMED)
    assert len(cases) == 14
    reached = {name for name, case in cases.items() if case.attributes.get("update_rule") in ("linear", "gated")}
    assert reached == IN_REACH
    for name in sorted(reached):
        q, k, v = operands(cases[name])
        out = fusemax.linear_attention(q, k, v, kernel="identity", normaliser=None, device=device)
        expected = heads_of(cases[name].outputs["output"], q.shape[1])
        largest = np.tril(np.abs(q) @ np.abs(k).swapaxes(-1, -2)) @ np.abs(v) * q.shape[-1] ** -0.5
        assert (np.abs(out - expected) <= (3 * 2**-9 + 1e-4) * largest).all(), name
        assert relative_error(out, expected) <= 7e-3, name


def test_delta_rule_is_not_in_reach() -> None:
    """A value is corrected by the state in front of it, so that no sum over keys gives the state."""
    cases = onnx_cases("linear_attention", "LinearAttention", NAMED)
    others = {name: case for name, case in cases.items() if name not in IN_REACH}
    assert len(others) == 10
    assert {case.attributes.get("update_rule", "gated_delta") for case in others.values()} == {"delta", "gated_delta"}
    assert all("beta" in case.inputs for case in others.values())

"""ONNX's cases of attention through :func:`fusemax.attention`: within what rounding their inputs to bfloat16 does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx_cases import OnnxCase, onnx_cases

import fusemax
from fusemax.runtime.options import AttentionOptions

NAMED = (
    ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen"),
    ("Y", "present_key", "present_value", "qk_matmul_output"),
)
CASES = onnx_cases("attention", "Attention", NAMED)
#: What ``qk_matmul_output_mode`` 0 to 3 is here.
MODES = ("raw", "capped", "masked", None)
#: Masks of pairs and biases are arguments of their own.
HAS_MASKS = {"mask", "bias"} <= AttentionOptions.__optional_keys__


@pytest.fixture(scope="module")
def device() -> Iterator[fusemax.Device]:
    config = replace(fusemax.CONFIGS["small"], name="small_linear", linear=True)
    with fusemax.open("model", config, memory_bytes=1 << 24) as opened:
        yield opened


class Operands:
    """A case as arguments of a call: (batch, heads, length, head dim), the past in front of the keys."""

    def __init__(self, case: OnnxCase) -> None:
        given, attributes = case.inputs, case.attributes
        self.packed = given["Q"].ndim == 3
        counts = (attributes.get("q_num_heads"), attributes.get("kv_num_heads"), attributes.get("kv_num_heads"))
        self.q, self.k, self.v = (self.heads(given[name], count) for name, count in zip("QKV", counts, strict=True))
        past = 0
        if "past_key" in given:
            past = given["past_key"].shape[2]
            self.k = np.concatenate([given["past_key"], self.k], axis=2)
            self.v = np.concatenate([given["past_value"], self.v], axis=2)
        queries, keys = self.q.shape[2], self.k.shape[2]
        causal = bool(attributes.get("is_causal", 0))
        window = (attributes.get("left_window_size", -1), attributes.get("right_window_size", -1))
        self.options: dict[str, Any] = {"causal": causal, "query_offset": past, "softcap": attributes.get("softcap", 0)}
        if window != (-1, -1):
            self.options["window"] = window
        if "scale" in attributes:
            self.options["scale"] = attributes["scale"]
        if "nonpad_kv_seqlen" in given:
            lengths = given["nonpad_kv_seqlen"]
            self.options |= {"key_lengths": lengths, "query_offset": lengths - queries if past == 0 else past}
        mask = given.get("attn_mask")
        if mask is not None:
            missing = [(0, 0)] * (mask.ndim - 1) + [(0, keys - mask.shape[-1])]
            if mask.dtype == np.bool_:
                self.options["mask"] = np.pad(mask, missing)
            else:
                self.options["bias"] = np.pad(mask.astype(np.float32), missing, constant_values=-np.inf)

    def heads(self, array: np.ndarray, count: int | None) -> np.ndarray:
        """(batch, heads, length, head dim) of that or of (batch, length, heads · head dim)."""
        return array.reshape(*array.shape[:2], count, -1).swapaxes(1, 2) if self.packed else array

    def score_error(self) -> np.ndarray:
        """What rounding queries and keys does to scale · q kᵀ at most, (batch, heads, P, M)."""
        share = self.q.shape[1] // self.k.shape[1]
        q, k = np.abs(self.q.astype(np.float64)), np.abs(np.repeat(self.k, share, axis=1).astype(np.float64))
        return (2.0**-8 + 2.0**-16) * (q @ k.swapaxes(-1, -2)) * self.options.get("scale", q.shape[-1] ** -0.5)


@pytest.mark.parametrize("name", sorted(CASES))
def test_case(device, name: str) -> None:
    case = CASES[name]
    operands = Operands(case)
    if not HAS_MASKS and {"mask", "bias"} & set(operands.options):
        pytest.skip("masks and biases of pairs are no arguments yet")
    mode = case.attributes.get("qk_matmul_output_mode", 0)
    wanted: dict[str, Any] = {}
    if "qk_matmul_output" in case.outputs:
        wanted = {"return_weights": True} if mode == 3 else {"return_scores": MODES[mode]}
    arrays = operands.q, operands.k, operands.v
    result = fusemax.attention(*arrays, device=device, out_dtype="float32", **wanted, **operands.options)
    out, *scores = result if isinstance(result, tuple) else (result,)
    # A weight's relative error is at most that of its score and of the sum; half a unit in the last place of the result.
    error = operands.score_error()
    resolution = float(ml_dtypes.finfo(case.outputs["Y"].dtype).eps)
    largest = np.abs(operands.v.astype(np.float64)).max()
    expected = operands.heads(case.outputs["Y"], operands.q.shape[1]).astype(np.float64)
    bound = (2 * error.max(axis=-1, keepdims=True) + 2.0**-9 + resolution + 1e-4) * largest
    assert (np.abs(out - expected) <= bound).all()
    # No wider than a few parts in a hundred, or the comparison would say nothing.
    assert bound.max() <= 0.1 * largest or np.abs(operands.q).max() > 2
    if scores:
        found, expected = scores[0], case.outputs["qk_matmul_output"].astype(np.float64)
        finite = np.isfinite(expected)
        np.testing.assert_array_equal(np.isfinite(found), finite)
        size = 1.0 if mode == 3 else np.abs(np.where(finite, expected, 0)).max()
        allowed = (2 if mode == 3 else 1) * error + (resolution + 1e-4) * size
        assert (np.abs(found[finite] - expected[finite]) <= np.broadcast_to(allowed, finite.shape)[finite]).all()
    for key, array in (("present_key", operands.k), ("present_value", operands.v)):
        if key in case.outputs:
            np.testing.assert_array_equal(array, case.outputs[key])


def test_number_of_cases() -> None:
    """All of them can be said; those with a mask wait for its argument."""
    assert len(CASES) == 93
    masked = [name for name, case in CASES.items() if "attn_mask" in case.inputs]
    assert len(masked) == 52

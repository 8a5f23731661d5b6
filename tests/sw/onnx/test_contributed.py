"""MultiHeadAttention and GroupQueryAttention of ONNX Runtime, against their definitions in float64.

The definitions here agree with ONNX Runtime 1.32 on its CPU within 1e-7 of float32 inputs, where it implements the case.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.runtime.options import AttentionOptions
from fusemax.spec import config_named

pytest.importorskip("onnx", reason="needs the extra onnx")

from onnx import TensorProto, helper

import fusemax.onnx

pytestmark = pytest.mark.filterwarnings("ignore")

B, S, M, N, KV, H = 2, 5, 7, 4, 2, 16
TYPES = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
Arrays = dict[str, np.ndarray]


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers that are bfloat16 already."""
    array = np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)
    return array.astype(ml_dtypes.bfloat16).astype(np.float32)


#: Capped scores, and scores as results, need the option linear.
MACHINE = replace(config_named("small"), name="small_linear", linear=True)


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", MACHINE) as opened:
        yield opened


def run(
    device: fusemax.Device, kind: str, inputs: dict[str, np.ndarray | None], outputs: int, **attributes: Any
) -> list[np.ndarray]:
    """A model of one operator; inputs that are None are left out."""
    given = {name: array for name, array in inputs.items() if array is not None}
    names = [name if array is not None else "" for name, array in inputs.items()]
    values = [helper.make_tensor_value_info(name, TYPES[array.dtype.name], array.shape) for name, array in given.items()]
    results = [f"out{number}" for number in range(outputs)]
    node = helper.make_node(kind, names, results, domain="com.microsoft", **attributes)
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in results]
    graph = helper.make_graph([node], "one operator", values, infos)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return fusemax.onnx.run(helper.make_model(graph, opset_imports=imports), given, device)


def heads(array: np.ndarray, count: int) -> np.ndarray:
    return array.reshape(*array.shape[:2], count, -1).swapaxes(1, 2).astype(np.float64)


def exact(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    seen: Any = True,
    *,
    scale: float | None = None,
    sink: Any = None,
    bias: Any = 0.0,
) -> np.ndarray:
    """(batch, length, hidden) from heads in front of lengths."""
    share = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, share, axis=1), np.repeat(v, share, axis=1)
    scores = q @ k.swapaxes(-1, -2) * (scale or q.shape[-1] ** -0.5) + bias
    weights = np.where(seen, np.exp(scores), 0)
    total = weights.sum(-1, keepdims=True) + (0 if sink is None else np.exp(np.reshape(sink, (1, -1, 1, 1))))
    out = (weights / total) @ v
    return out.swapaxes(1, 2).reshape(out.shape[0], out.shape[2], -1)


def same(found: np.ndarray, expected: np.ndarray, limit: float = 1e-4) -> None:
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= limit * np.linalg.norm(expected)


# -- MultiHeadAttention ------------------------------------------------------------------------------------------------

PADDED = np.arange(M) < np.array([[7], [4]])


@pytest.mark.parametrize(
    ("mask", "seen"),
    [
        (None, True),
        (np.array([7, 4], np.int32), PADDED[:, None, None]),
        (np.array([7, 4, 0, 5, 10, 0, 7, 14], np.int32), PADDED[:, None, None]),
        (PADDED.astype(np.int32), PADDED[:, None, None]),
        (np.repeat(PADDED[:, None], S, axis=1).astype(np.int32), PADDED[:, None, None]),
    ],
    ids=["none", "lengths", "cumulative", "keys", "pairs"],
)
def test_padding(device: fusemax.Device, mask: np.ndarray | None, seen: Any) -> None:
    q, k, v = random(B, S, N * H), random(B, M, N * H), random(B, M, N * 6)
    inputs = {"q": q, "k": k, "v": v, "bias": None, "mask": mask}
    (out,) = run(device, "MultiHeadAttention", inputs, 1, num_heads=N, scale=0.3)
    same(out, exact(heads(q, N), heads(k, N), heads(v, N), seen, scale=0.3))


def test_forms_of_keys_and_values(device: fusemax.Device) -> None:
    q, k, v = (random(B, S, N, H, seed=seed) for seed in range(3))
    expected = exact(*(x.swapaxes(1, 2).astype(np.float64) for x in (q, k, v)))
    flat = [x.reshape(B, S, -1) for x in (q, k, v)]
    for inputs in (
        flat,
        [np.stack([q, k, v], axis=3)],
        [flat[0], np.stack([k, v], axis=3)],
        [flat[0], k.swapaxes(1, 2).copy(), v.swapaxes(1, 2).copy()],
    ):
        (out,) = run(device, "MultiHeadAttention", dict(zip("qkv", inputs, strict=False)), 1, num_heads=N)
        same(out, expected)


def test_bias_of_the_projections(device: fusemax.Device) -> None:
    q, k, v, bias = random(B, S, N * H), random(B, M, N * H), random(B, M, N * 6), random(N * (2 * H + 6))
    (out,) = run(device, "MultiHeadAttention", {"q": q, "k": k, "v": v, "bias": bias}, 1, num_heads=N)
    parts = np.split(bias, [N * H, 2 * N * H])
    biased = [(x + part).astype(ml_dtypes.bfloat16).astype(np.float64) for x, part in zip((q, k, v), parts, strict=True)]
    same(out, exact(*(heads(x, N) for x in biased)))


@pytest.mark.parametrize("causal", [0, 1])
def test_past(device: fusemax.Device, causal: int) -> None:
    q, k, v, pk, pv = (
        random(B, S, N * H),
        random(B, S, N * H),
        random(B, S, N * H),
        random(B, N, 3, H),
        random(B, N, 3, H, seed=1),
    )
    inputs = {"q": q, "k": k, "v": v, "bias": None, "mask": None, "attention_bias": None, "pk": pk, "pv": pv}
    out, key, value = run(device, "MultiHeadAttention", inputs, 3, num_heads=N, unidirectional=causal)
    whole = [np.concatenate([old, heads(new, N)], axis=2) for old, new in ((pk, k), (pv, v))]
    np.testing.assert_array_equal(key, whole[0])
    np.testing.assert_array_equal(value, whole[1])
    same(out, exact(heads(q, N), *whole, np.tri(S, S + 3, 3) > 0 if causal else True))


def test_what_multi_head_attention_refuses(device: fusemax.Device) -> None:
    q = random(B, S, N * H)
    inputs = {"q": q, "k": q, "v": q, **dict.fromkeys("abcde"), "past_sequence_length": np.zeros(1, np.int32)}
    with pytest.raises(NotImplementedError, match="MultiHeadAttention must be without the input past_sequence_length"):
        run(device, "MultiHeadAttention", inputs, 1, num_heads=N)
    with pytest.raises(NotImplementedError, match="MultiHeadAttention must be without the output qk"):
        run(device, "MultiHeadAttention", {"q": q, "k": q, "v": q}, 4, num_heads=N)
    with pytest.raises(ValueError, match="key_padding_mask must have 2 or 8 lengths, not 3"):
        run(device, "MultiHeadAttention", {"q": q, "k": q, "v": q, "b": None, "m": np.ones(3, np.int32)}, 1, num_heads=N)
    with pytest.raises(ValueError, match="the hidden size must be a multiple of 3 heads, not 64"):
        run(device, "MultiHeadAttention", {"q": q, "k": q, "v": q}, 1, num_heads=3)


@pytest.mark.skipif("bias" not in AttentionOptions.__optional_keys__, reason="attention has no bias yet")
def test_attention_bias(device: fusemax.Device) -> None:
    q, k, bias = random(B, S, N * H), random(B, M, N * H), random(1, N, S, M)
    inputs = {"q": q, "k": k, "v": k, "b": None, "mask": None, "bias": bias}
    (out,) = run(device, "MultiHeadAttention", inputs, 1, num_heads=N)
    same(out, exact(heads(q, N), heads(k, N), heads(k, N), bias=bias))


# -- GroupQueryAttention -----------------------------------------------------------------------------------------------


def grouped(queries: int, lengths: list[int], buffer: int = 0, *, packed: bool = False, batch: int = B) -> dict[str, Any]:
    """Inputs for sequences of these lengths, the last ``queries`` of which are new; a cache of ``buffer`` rows."""
    q, k, v = random(batch, queries, N * H), random(batch, queries, KV * H), random(batch, queries, KV * H, seed=1)
    own = {"q": np.concatenate([q, k, v], axis=2), "k": None, "v": None} if packed else {"q": q, "k": k, "v": v}
    past = [random(batch, KV, buffer, H, seed=seed) if buffer else None for seed in (2, 3)]
    return own | {
        "past_key": past[0],
        "past_value": past[1],
        "seqlens_k": np.array(lengths, np.int32) - 1,
        "total": np.array([max(lengths)], np.int32),
    }


@pytest.mark.parametrize(
    ("queries", "lengths", "buffer", "attributes"),
    [
        (5, [5, 5], 0, {}),
        (5, [5, 3], 0, {"scale": 0.4}),
        (9, [9, 9], 0, {"local_window_size": 3}),
        (1, [8, 8], 7, {}),
        (1, [8, 5], 7, {"local_window_size": 4}),
        (1, [8, 5], 16, {}),
        (3, [8, 7], 12, {}),
        (5, [5, 5], 0, {"smooth_softmax": 1}),
    ],
    ids=["prompt", "padded", "window", "decoding", "ragged", "buffer", "chunk", "smooth"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_grouped(device: fusemax.Device, queries: int, lengths: list[int], buffer: int, attributes: dict, packed: bool) -> None:
    inputs = grouped(queries, lengths, buffer)
    given = grouped(queries, lengths, buffer, packed=packed)
    out, key, value = run(device, "GroupQueryAttention", given, 3, num_heads=N, kv_num_heads=KV, **attributes)
    assert key.shape == value.shape == (B, KV, max(buffer, *lengths), H)
    for entry, length in enumerate(lengths):
        past = 0 if not buffer else length - queries
        rows = min(queries, length)
        whole = []
        for new, old, present in (("k", "past_key", key), ("v", "past_value", value)):
            own = heads(inputs[new], KV)[entry, :, :rows]
            whole.append(own if not past else np.concatenate([inputs[old][entry, :, :past], own], axis=1))
            np.testing.assert_array_equal(present[entry, :, :length], whole[-1])
        place, number = past + np.arange(rows)[:, None], np.arange(length)
        seen = (number <= place) & (number > place - attributes.get("local_window_size", 99))
        q = heads(inputs["q"], N)[entry, :, :rows]
        sink = np.zeros(N) if "smooth_softmax" in attributes else None
        expected = exact(q[None], whole[0][None], whole[1][None], seen, scale=attributes.get("scale"), sink=sink)
        same(out[entry, :rows], expected[0])


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary(device: fusemax.Device, interleaved: int) -> None:
    """A rotation by the place; that of a chunk continues the prompt's."""
    angle = np.arange(12)[:, None] / 100 ** (np.arange(H // 2) / (H // 2))
    caches = {"cos": np.cos(angle).astype(np.float32), "sin": np.sin(angle).astype(np.float32)}
    attributes = {"num_heads": N, "kv_num_heads": KV, "do_rotary": 1, "rotary_interleaved": interleaved}
    whole = grouped(8, [8, 8])
    out, key, value = run(device, "GroupQueryAttention", whole | caches, 3, **attributes)

    def turned(x: np.ndarray) -> np.ndarray:
        left, right = (x[..., ::2], x[..., 1::2]) if interleaved else np.split(x, 2, axis=-1)
        number = (left + 1j * right) * np.exp(1j * angle[:8])
        both = (number.real, number.imag)
        return np.stack(both, axis=-1).reshape(x.shape) if interleaved else np.concatenate(both, axis=-1)

    q, k = turned(heads(whole["q"], N)), turned(heads(whole["k"], KV))
    np.testing.assert_allclose(key, k, rtol=1e-6, atol=1e-6)
    rounded = [x.astype(ml_dtypes.bfloat16).astype(np.float64) for x in (q, k)]
    same(out, exact(*rounded, heads(whole["v"], KV), np.tri(8) > 0), 4e-3)

    chunk = {name: whole[name][:, 5:] for name in "qkv"} | {
        "past_key": key[:, :, :5],
        "past_value": value[:, :, :5],
        "seqlens_k": whole["seqlens_k"],
        "total": whole["total"],
    }
    later, *_ = run(device, "GroupQueryAttention", chunk | caches, 3, **attributes)
    same(later, out[:, 5:], 1e-6)


def test_sinks_of_heads(device: fusemax.Device) -> None:
    inputs = grouped(5, [5, 5])
    sink = random(N, seed=4)
    more = {"cos": None, "sin": None, "position_ids": None, "attention_bias": None, "head_sink": sink}
    (out,) = run(device, "GroupQueryAttention", inputs | more, 1, num_heads=N, kv_num_heads=KV)
    same(out, exact(heads(inputs["q"], N), heads(inputs["k"], KV), heads(inputs["v"], KV), np.tri(5) > 0, sink=sink))


def test_what_group_query_attention_refuses(device: fusemax.Device) -> None:
    with pytest.raises(NotImplementedError, match="GroupQueryAttention must be without kv_cache_bit_width"):
        run(device, "GroupQueryAttention", grouped(5, [5, 5]), 1, num_heads=N, kv_num_heads=KV, kv_cache_bit_width=8)
    with pytest.raises(ValueError, match="cos_cache and sin_cache must be given with do_rotary"):
        run(device, "GroupQueryAttention", grouped(5, [5, 5]), 1, num_heads=N, kv_num_heads=KV, do_rotary=1)

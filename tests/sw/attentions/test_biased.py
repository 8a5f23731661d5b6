"""Learned keys and values: K-bias, KV-bias, sink token and V-bias."""

from __future__ import annotations

import numpy as np
import pytest

import fusemax
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error


def expected(q, k, v, key, value, sees, scale=None):
    """Of one head, with the key in front of the others and seen by all."""
    keys, values = np.concatenate([key[None], k]), np.concatenate([value[None], v])
    weights = exact.softmax_weights(q, keys, scale, np.concatenate([np.ones((len(q), 1), bool), sees], axis=1))
    return weights @ values.astype(np.float64)


@pytest.mark.parametrize("window", [None, (127, 0)])
@pytest.mark.parametrize("kind", ["K-bias", "KV-bias", "sink token"])
def test_error(device, qkv, kind: str, window) -> None:
    q, k, v = qkv(384, leading=(2,), peak=4)
    key, value, _ = (x[0] for x in qkv(2, seed=9, leading=(1,)))
    if kind == "sink token":
        # The same for all heads.
        key, value = key[0], value[0]
    given = {} if kind == "K-bias" else {"v_bias": value}
    out = fusemax.biased_attention(q, k, v, k_bias=key, causal=True, window=window, out_dtype="float32", device=device, **given)
    place = np.arange(384)
    sees = (place[:, None] >= place) & (place[:, None] - place <= (384 if window is None else window[0]))
    for head in range(2):
        one, other = (x if x.ndim == 1 else x[head] for x in (key, value if given else 0 * value))
        assert relative_error(out[head], expected(q[head], k[head], v[head], one, other, sees)) <= 2e-5


def test_output_bias(device, qkv) -> None:
    q, k, v = qkv(32, peak=4)
    bias = np.linspace(-1, 1, 64)
    out = fusemax.biased_attention(q, k, v, output_bias=bias, out_dtype="float32", device=device)
    assert relative_error(out, exact.softmax_weights(q, k) @ v.astype(np.float64) + bias) <= 2e-5
    key = q[0]
    both = fusemax.biased_attention(q, k, v, k_bias=key, output_bias=bias, out_dtype="float32", device=device)
    seen = np.ones((32, 32), bool)
    assert relative_error(both, expected(q, k, v, key, 0 * v[0], seen) + bias) <= 2e-5
    assert fusemax.biased_attention(q, k, v, output_bias=bias, device=device).dtype == v.dtype


def test_without_biases_it_is_attention(device, qkv) -> None:
    q, k, v = qkv(16, e=8)
    plain = fusemax.attention(q, k, v, causal=True, device=device)
    np.testing.assert_array_equal(fusemax.biased_attention(q, k, v, causal=True, device=device), plain)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"v_bias": np.zeros(4)}, ValueError, "k_bias must be given with v_bias"),
        ({"k_bias": np.zeros(3)}, ValueError, r"k_bias must be of shape \(4,\) or \(2, 4\), not \(3,\)"),
        ({"k_bias": "key"}, TypeError, "k_bias must be an array of numbers or None, not 'key'"),
        ({"output_bias": np.full(4, np.inf)}, ValueError, "output_bias must be finite, but is not"),
        ({"temperature": 2.0}, TypeError, "unexpected keyword argument 'temperature'"),
    ],
)
def test_wrong_arguments(qkv, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fusemax.biased_attention(*qkv(4, e=4, leading=(2,)), **options)

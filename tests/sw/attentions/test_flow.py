"""Flow attention: the formula of the core code, its variants, and what the host and the array each do of it."""

from __future__ import annotations

import numpy as np
import pytest

import fusemax
from fusemax.attentions.flow import FLOW_VARIANTS, Flow
from fusemax.cascade import CASCADES
from fusemax.cascade.interpreter import interpret
from fusemax.errors import MissingOptionError
from fusemax.evaluation import attentions as exact
from fusemax.evaluation.exact import relative_error


@pytest.mark.parametrize("length", [1, 17, 1024])
@pytest.mark.parametrize(("parts", "most"), [(2, 2e-5), (1, 5e-4)])
def test_error(device, qkv, length: int, parts: int, most: float) -> None:
    q, k, v = qkv(length)
    out = fusemax.flow_attention(q, k, v, parts=parts, device=device)
    assert out.dtype == np.float32
    # One query's features are not averaged over a head's many.
    assert relative_error(out, exact.flow_attention(q, k, v)) <= (most if length > 1 else 4 * most)


def test_queries_and_keys_of_different_lengths(device, qkv) -> None:
    q, k, v = qkv(90, leading=(2, 3), f=40)
    q = q[..., :37, :]
    assert relative_error(fusemax.flow_attention(q, k, v, device=device), exact.flow_attention(q, k, v)) <= 2e-5


def test_grouped_heads(device, qkv) -> None:
    q, k, v = qkv(32, leading=(4,))
    k, v = k[:2], v[:2]
    expected = exact.flow_attention(q, np.repeat(k, 2, axis=0), np.repeat(v, 2, axis=0))
    assert relative_error(fusemax.flow_attention(q, k, v, device=device), expected) <= 2e-5


def test_head_dims_larger_than_the_machine_has_room_for_are_worked_in_blocks(qkv) -> None:
    q, k, v = qkv(90, e=70, f=70)
    counters: list[fusemax.Counters] = []
    with fusemax.open("model", "tiny") as tiny:
        out = fusemax.flow_attention(q, k, v, device=tiny, counters=counters)
    assert relative_error(out, exact.flow_attention(q, k, v)) <= 2e-5
    # Blocks of 32 features, and 64 columns of values at a time: the context has two bfloat16 parts, the values one.
    assert len(counters) == 3 * 2 + 3 * 3


def test_reference_is_the_cascade(qkv) -> None:
    q, k, v = (x.astype(np.float64) for x in qkv(12, e=5, f=3))
    found = interpret(CASCADES["flowformer"], {"Q": q[:9].T, "K": k.T, "V": v.T})["AV"].T
    np.testing.assert_allclose(found, exact.flow_attention(q[:9], k, v), rtol=1e-12)


def test_clamp_hits(device, qkv) -> None:
    """A query that no key's flow meets makes flows out of the range; they are kept within it."""
    q, k, v = qkv(64)
    q = q * 4
    flow = Flow.of(q.astype(np.float64), k.astype(np.float64) * 4, FLOW_VARIANTS["core"])
    hits = (np.abs(flow.competition) > 1).sum()
    assert 0 < hits < 64
    out = fusemax.flow_attention(q, k * 4, v, device=device)
    assert relative_error(out, exact.flow_attention(q, k * 4, v)) <= 2e-5
    free = fusemax.flow_attention(q, k * 4, v, variant="timeseries", device=device)
    assert relative_error(free, exact.flow_attention(q, k * 4, v, clamp=None)) <= 2e-5
    assert relative_error(free, exact.flow_attention(q, k * 4, v)) > 1e-4


def test_variants_differ(device, qkv) -> None:
    q, k, v = qkv(24, e=16)
    found = {name: fusemax.flow_attention(q, k, v, variant=name, device=device) for name in FLOW_VARIANTS}
    assert np.isfinite(np.stack([*found.values()])).all()
    assert relative_error(found["lra"], found["core"].astype(np.float64)) > 1e-2
    # 1e-6 more in four products of numbers of some hundreds.
    assert relative_error(found["vision"], found["core"].astype(np.float64)) < 1e-4


@pytest.mark.parametrize("length", [1, 100, 256, 700])
@pytest.mark.parametrize("chunk", [None, 128])
@pytest.mark.parametrize(("parts", "most"), [(2, 2e-5), (1, 5e-4)])
def test_causal(device, qkv, length: int, chunk: int | None, parts: int, most: float) -> None:
    q, k, v = qkv(length, leading=(2,))
    out = fusemax.flow_attention(q, k, v, causal=True, chunk=chunk, parts=parts, device=device)
    # One query's features are not averaged over a head's many.
    assert relative_error(out, exact.flow_attention_causal(q, k, v)) <= (most if length > 1 else 8 * most)


def test_causal_reference_is_the_cascade(qkv) -> None:
    q, k, v = (x.astype(np.float64) for x in qkv(12, e=5, f=3))
    found = interpret(CASCADES["flowformer_causal"], {"Q": q.T, "K": k.T, "V": v.T})["AV"].T
    np.testing.assert_allclose(found, exact.flow_attention_causal(q, k, v), rtol=1e-12)


def test_causal_needs_an_option(qkv) -> None:
    with fusemax.open("model", "base") as plain, pytest.raises(MissingOptionError, match="the option linear") as caught:
        fusemax.flow_attention(*qkv(8, e=8), causal=True, device=plain)
    assert caught.value.option == "linear"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"variant": "paper"}, ValueError, "variant must be one of core, vision, lra, .*, not 'paper'"),
        ({"parts": 3}, ValueError, "parts must be 1 or 2, not 3"),
        ({"parts": 2.0}, TypeError, r"parts must be 1 or 2, not 2\.0"),
        ({"device": "model"}, TypeError, "device must be a Device or None, not 'model'"),
        ({"counters": ()}, TypeError, r"counters must be a list or None, not \(\)"),
    ],
)
def test_wrong_arguments(qkv, options, error, message) -> None:
    with pytest.raises(error, match=message):
        fusemax.flow_attention(*qkv(4, e=4), **options)

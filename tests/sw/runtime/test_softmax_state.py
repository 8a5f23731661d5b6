"""States and their merging: split anywhere is as good as not split."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from attention_reference import reference

import fusemax
from fusemax import State

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def arrays(*shapes: tuple[int, ...], factor: float = 1.0) -> list[np.ndarray]:
    found = [np.random.default_rng(seed).standard_normal(shape, np.float32) for seed, shape in enumerate(shapes)]
    return [found[0] * np.float32(factor), *found[1:]]


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", config="small") as opened:
        yield opened


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    expected = expected.astype(np.float64)
    return float(np.linalg.norm(result.astype(np.float64) - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("factor", [1.0, 12.0])
@pytest.mark.parametrize("split", [1, 8, 21, 63])
def test_split_keys_are_merged(device: fusemax.Device, split: int, factor: float) -> None:
    """As outputs with log-sum-exp, as states, and by going on from a state: within 2e-6 of one call.

    A reference is the largest score rounded up, a power of two apart, which changes no weight. So only the float32 roundings
    of what is merged count.
    """
    q, k, v = arrays((3, 20, 16), (3, 64, 16), (3, 64, 8), factor=factor)
    whole, lse = fusemax.attention(q, k, v, device=device, out_dtype="float32", return_lse=True)
    parts = [
        fusemax.attention(q, k[:, part], v[:, part], device=device, out_dtype="float32", return_lse=True, return_state=True)
        for part in (slice(0, split), slice(split, None))
    ]
    out, merged_lse = fusemax.merge([part[0] for part in parts], [part[1] for part in parts])
    assert out.dtype == np.float32
    # A log-sum-exp in float32 is off by as much of its size.
    assert relative_error(out, whole) < 2e-6 + 2.0**-24 * float(np.abs(lse).max())
    np.testing.assert_allclose(merged_lse, lse, rtol=2e-6, atol=2e-6)
    state = parts[0][2].merge(parts[1][2])
    assert relative_error(state.output(), whole) < 2e-6
    np.testing.assert_allclose(state.lse(), lse, rtol=2e-6, atol=2e-6)
    later = fusemax.attention(q, k[:, split:], v[:, split:], device=device, out_dtype="float32", state=parts[0][2])
    assert relative_error(later, whole) < 2e-6


def test_many_parts_some_of_them_empty(device: fusemax.Device) -> None:
    q, k, v = arrays((2, 5, 8), (2, 40, 8), (2, 40, 8))
    whole, lse = fusemax.attention(q, k, v, device=device, out_dtype="float32", return_lse=True, key_lengths=[40])
    calls = [
        fusemax.attention(q, k, v, device=device, out_dtype="float32", return_lse=True, window=(0, 7), query_offset=first)
        for first in (-90, 200)
    ]
    assert all((lse == -np.inf).all() and not out.any() for out, lse in calls)
    for start in range(0, 40, 10):
        part = slice(start, start + 10)
        calls.append(fusemax.attention(q, k[:, part], v[:, part], device=device, out_dtype="float32", return_lse=True))
    out, merged = fusemax.merge(*zip(*calls, strict=True))
    assert relative_error(out, whole) < 2e-6
    np.testing.assert_allclose(merged, lse, rtol=2e-6)
    none, minus = fusemax.merge([calls[0][0], calls[1][0]], [calls[0][1], calls[1][1]])
    assert not none.any() and (minus == -np.inf).all()


def test_sinks(device: fusemax.Device) -> None:
    """As a further key of that score and a value of zero; the argument and the state are the same."""
    q, k, v = arrays((2, 4, 9, 16), (2, 2, 11, 16), (2, 2, 11, 8))
    sink = [0.5, -3.0, 20.0, 0.0]
    out, lse = fusemax.attention(q, k, v, device=device, out_dtype="float32", sink=sink, return_lse=True, causal=True)
    exact = reference(q, k, v, sink=sink, causal=True)
    assert relative_error(out, exact.out) < 1e-4
    np.testing.assert_allclose(lse, exact.lse, atol=2e-4)
    state = State.sink(sink, 9, 8)
    assert state.shape == (4, 9, 8)
    again = fusemax.attention(q, k, v, device=device, out_dtype="float32", state=state, causal=True)
    np.testing.assert_array_equal(again, out)


def test_a_learned_key_and_value(device: fusemax.Device) -> None:
    q, k, v, k_bias, v_bias = arrays((2, 3, 9, 16), (2, 3, 11, 16), (2, 3, 11, 8), (3, 16), (3, 8))
    q, k_bias = (x.astype(BFLOAT16) for x in (q, k_bias))
    state = State.key_value_bias(q, k_bias, v_bias.astype(BFLOAT16), scale=0.3)
    out = fusemax.attention(q, k, v, 0.3, device=device, out_dtype="float32", state=state)
    more_k, more_v = (
        np.concatenate([np.broadcast_to(bias[:, None].astype(np.float32), (2, 3, 1, bias.shape[1])), x], axis=2)
        for bias, x in ((k_bias, k), (v_bias, v))
    )
    assert relative_error(out, reference(q, more_k, more_v, 0.3).out) < 1e-4


def test_rounding_to_bfloat16_is_one(device: fusemax.Device) -> None:
    """Numbers next to a tie, by less than float32 holds, on both sides."""
    one = np.ones(1, np.float32)
    for numerator, denominator, expected in (
        (1 + 2**-8, 1.0, 1.0),
        (3 * (1 + 2**-8) + 2**-22, 3.0, 1 + 2**-7),
        (3 * (1 + 3 * 2**-8) - 2**-22, 3.0, 1 + 2**-7),
        (-3 * (1 + 2**-8) - 2**-22, 3.0, -1 - 2**-7),
    ):
        state = State(0 * one, np.float32([denominator]), np.float32([[numerator]]))
        assert state.output("bfloat16").dtype == BFLOAT16
        assert float(state.output("bfloat16")[0, 0]) == expected


@pytest.mark.parametrize(("tie", "below", "above"), [(1 + 2**-8, 1.0, 1 + 2**-7), (1 + 3 * 2**-8, 1 + 2**-7, 1 + 2**-6)])
def test_quotients_that_float32_rounds_to_a_tie(tie: float, below: float, above: float) -> None:
    denominator = np.random.default_rng(1).uniform(1, 2, 1000).astype(np.float32)
    exact = denominator.astype(np.float64) * tie
    numerator = exact.astype(np.float32)
    numerator, exact, denominator = (x[exact != numerator] for x in (numerator, exact, denominator))
    assert (numerator / denominator == np.float32(tie)).sum() > 100
    for sign in (1, -1):
        state = State(np.zeros_like(denominator), denominator, sign * numerator[:, None])
        expected = sign * np.where(numerator > exact, above, below)
        np.testing.assert_array_equal(state.output("bfloat16")[:, 0].astype(np.float64), expected)


def test_a_state_without_keys_changes_nothing(device: fusemax.Device) -> None:
    """Whatever its maximum: the denominator says that there are none."""
    state = State(np.float32([1.0, 2.0]), np.float32([1.5, 2.0]), np.float32([[3.0], [5.0]]))
    for largest in (-np.inf, 0, 1e4):
        none = State(np.float32([largest]), np.zeros(1, np.float32), np.zeros((1, 1), np.float32))
        for merged in (state.merge(none), none.merge(state)):
            for name in ("max", "denominator", "numerator"):
                np.testing.assert_array_equal(getattr(merged, name), getattr(state, name))
        assert none.lse() == -np.inf and none.merge(none).lse() == -np.inf
    q, k, v = arrays((3, 8), (5, 8), (5, 4))
    out, lse, found = fusemax.attention(
        q, k, v, device=device, return_lse=True, return_state=True, causal=True, query_offset=-2
    )
    unseen = np.array([True, True, False])
    for array in (lse, found.max, found.lse()):
        np.testing.assert_array_equal(array == -np.inf, unseen)
    assert not out[:2].any() and out[2].any()
    assert not found.denominator[:2].any() and not found.numerator[:2].any()


def test_a_merge_of_bfloat16_is_bfloat16(device: fusemax.Device) -> None:
    q, k, v = arrays((2, 5, 8), (2, 40, 8), (2, 40, 8))
    calls = [fusemax.attention(q, k[:, part], v[:, part], device=device, return_lse=True) for part in (slice(9), slice(9, 40))]
    out, lse = fusemax.merge(*zip(*calls, strict=True))
    assert (out.dtype, lse.dtype) == (BFLOAT16, np.float32)
    assert relative_error(out, reference(q, k, v).out) < 6e-3


def test_a_maximum_that_float32_rounds_changes_nothing() -> None:
    """The reference is an integer to base 2: its logarithm has more digits than float32, which denominators take over."""
    from fusemax.runtime.softmax_state import state_of_device

    reference = np.array([12345.0]) * np.log(2)
    state = state_of_device(reference, np.float32([1.5]), np.float32([[3.0]]))
    exact = float(state.max[0].astype(np.float64) + np.log(state.denominator[0].astype(np.float64)))
    assert abs(exact - (reference[0] + np.log(1.5))) < 1e-7
    assert abs(state.output()[0, 0] - 2) < 3e-7


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"max": np.zeros(3)}, TypeError, "max must be a float32 array, not float64"),
        ({"numerator": [1]}, TypeError, "numerator must be a float32 array, not list"),
        ({"max": np.float32([np.inf] * 3)}, ValueError, "max must be finite or -inf"),
        ({"max": np.float32([np.nan] * 3)}, ValueError, "max must be finite or -inf"),
        ({"denominator": np.float32([1, 2, -1])}, ValueError, "denominator must be finite and not negative"),
        ({"max": np.float32([0, -np.inf, 0])}, ValueError, "denominator must be 0 where max is -inf"),
        ({"denominator": np.ones(4, np.float32)}, ValueError, r"must fit, not be of shapes \(3,\), \(4,\) and \(3, 2\)"),
        ({"numerator": np.ones(3, np.float32)}, ValueError, r"max must end in \(P,\) and numerator in \(P, F\)"),
    ],
)
def test_wrong_states(change: dict, error: type[Exception], message: str) -> None:
    parts = {"max": np.zeros(3, np.float32), "denominator": np.ones(3, np.float32), "numerator": np.ones((3, 2), np.float32)}
    State(**parts)
    with pytest.raises(error, match=message):
        State(**(parts | change))


def test_wrong_merges() -> None:
    out, lse = np.zeros((2, 3), np.float32), np.zeros(2, np.float32)
    with pytest.raises(ValueError, match="as many outs as lses and at least one, not 0 and 0"):
        fusemax.merge([], [])
    with pytest.raises(ValueError, match="as many outs as lses and at least one, not 1 and 2"):
        fusemax.merge([out], [lse, lse])
    with pytest.raises(ValueError, match="outs must be of one shape"):
        fusemax.merge([out, out[:1]], [lse, lse])
    with pytest.raises(TypeError, match="outs must all be float32 or all bfloat16, not float32 and float64"):
        fusemax.merge([out, out.astype(np.float64)], [lse, lse])
    with pytest.raises(TypeError, match="outs must be arrays, not list"):
        fusemax.merge([[1.0]], [lse])
    with pytest.raises(TypeError, match="lses must be arrays, not float"):
        fusemax.merge([out], [1.0])
    with pytest.raises(TypeError, match="lses must be float32 or float64, not int64"):
        fusemax.merge([out], [np.zeros(2, np.int64)])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="lses must be finite or -inf"):
            fusemax.merge([out], [np.float32([0, bad])])


def test_outputs_that_are_stacked_are_merged() -> None:
    outs, lses = np.float32([[[1.0]], [[3.0]]]), np.zeros((2, 1), np.float32)
    out, lse = fusemax.merge(outs, lses)
    assert out.tolist() == [[2.0]]
    np.testing.assert_allclose(lse, np.log(2), rtol=1e-6)


FEW = State(np.zeros(3, np.float32), np.ones(3, np.float32), np.ones((3, 2), np.float32))
QUERIES, KEY, VALUE = np.ones((2, 3, 4), np.float32), np.ones((2, 4), np.float32), np.ones((2, 2), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: State.sink([[1.0]], 3, 2), ValueError, "logits must be finite numbers or -inf, one per head"),
        (lambda: State.sink([1e39], 3, 2), ValueError, "logits must be finite numbers or -inf, one per head"),
        (lambda: State.sink("ab", 3, 2), TypeError, "logits must be numbers, one per head, not 'ab'"),
        (lambda: State.sink([1.0], 0, 2), ValueError, "queries must be at least 1, not 0"),
        (lambda: State.sink([1.0], 3, 2.5), TypeError, "f must be an integer, not 2.5"),
        (lambda: State.key_value_bias(KEY, KEY, VALUE), ValueError, r"q must end in \(heads, P, E\)"),
        (lambda: State.key_value_bias(QUERIES, "ab", VALUE), TypeError, "k_bias must be an array of numbers, not 'ab'"),
        (lambda: State.key_value_bias(QUERIES, KEY, VALUE * np.nan), ValueError, "v_bias must be finite"),
        (
            lambda: State.key_value_bias(QUERIES, KEY, VALUE, "1"),
            TypeError,
            "scale must be a number, one per head, or None, not '1'",
        ),
        (lambda: State.key_value_bias(QUERIES, KEY, VALUE, [1.0]), ValueError, "scale must be a finite number, or 2 of them"),
        (lambda: State.key_value_bias(QUERIES, KEY, VALUE, np.inf), ValueError, "scale must be a finite number"),
        (lambda: FEW.merge(3), TypeError, "states must be of fusemax.State, not 3"),
        (
            lambda: FEW.merge(State.sink([0.0], 4, 2)),
            ValueError,
            r"states must be of shapes that fit, not \[\(3, 2\), \(1, 4, 2\)\]",
        ),
        (lambda: FEW.output("float16"), ValueError, "dtype must be 'bfloat16' or 'float32', not 'float16'"),
        (lambda: FEW.output(None), ValueError, "dtype must be 'bfloat16' or 'float32', not None"),
    ],
)
def test_wrong_arguments_of_states(call, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_scale_per_head_of_a_learned_key() -> None:
    states = [State.key_value_bias(QUERIES, KEY, VALUE, scale) for scale in ([0.5, 2.0], 0.5, 2.0)]
    np.testing.assert_array_equal(states[0].max, np.stack([states[1].max[0], states[2].max[1]]))


def test_bfloat16_sinks() -> None:
    np.testing.assert_array_equal(State.sink(np.ones(2, BFLOAT16), 3, 2).max, State.sink([1.0, 1.0], 3, 2).max)

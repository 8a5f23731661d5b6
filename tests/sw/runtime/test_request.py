"""Arguments of a call: which are refused, and what becomes of the others."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusemax import State
from fusemax.planning.masks import Mask
from fusemax.runtime.request import Request
from fusemax.spec import CONFIGS, Config


def request(leading: tuple[int, ...] = (2, 3), queries: int = 4, keys: int = 5, e: int = 8, f: int = 2, **options) -> Request:
    return Request(options, leading, queries, keys, e, f)


STATE = State(np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32), np.zeros((3, 4, 2), np.float32))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"causal": 1}, TypeError, "causal must be True or False, not 1"),
        ({"return_lse": None}, TypeError, "return_lse must be True or False, not None"),
        ({"return_state": "yes"}, TypeError, "return_state must be True or False, not 'yes'"),
        ({"query_offset": 1.5}, TypeError, "query_offset must be an integer or one per batch entry, not 1.5"),
        ({"query_offset": True}, TypeError, "query_offset must be an integer or one per batch entry, not True"),
        (
            {"query_offset": [[1], [2, 3]]},
            TypeError,
            r"query_offset must be an integer or one per batch entry, not \[\[1\], \[2, 3\]\]",
        ),
        ({"query_offset": [1 << 70, 1.5]}, TypeError, "query_offset must be an integer or one per batch entry"),
        ({"query_offset": [1, 2, 3]}, ValueError, "query_offset must be an integer or 2 of them, one per batch entry"),
        ({"window": 3}, TypeError, r"window must be a pair \(left, right\) or None, not 3"),
        ({"window": (1, 2, 3)}, TypeError, r"window must be a pair \(left, right\) or None"),
        ({"window": (1.0, 2)}, TypeError, r"window must be two integers, not \(1.0, 2\)"),
        ({"window": (-2, 0)}, ValueError, r"window must be two numbers of keys, -1 for all, not \(-2, 0\)"),
        ({"key_lengths": [1, 6]}, ValueError, "key_lengths must be from 0 to 5, not 6"),
        ({"key_lengths": [1, -1]}, ValueError, "key_lengths must be from 0 to 5, not -1"),
        ({"key_lengths": [1]}, ValueError, "key_lengths must be an integer or 2 of them"),
        ({"key_lengths": "ab"}, TypeError, "key_lengths must be an integer or one per batch entry, not 'ab'"),
        ({"prefix": -1}, ValueError, "prefix must be at least 0, not -1"),
        ({"key_start": [0, 6]}, ValueError, "key_start must be from 0 to 5, not 6"),
        ({"key_start": [0, 1, 2]}, ValueError, "key_start must be an integer or 2 of them, one per batch entry"),
        ({"key_start": 1.0}, TypeError, "key_start must be an integer or one per batch entry, not 1.0"),
        ({"out_dtype": "float16"}, ValueError, "out_dtype must be 'bfloat16' or 'float32', not 'float16'"),
        ({"out_dtype": np.float64}, ValueError, "out_dtype must be 'bfloat16' or 'float32', not <class 'numpy.float64'>"),
        ({"out_dtype": None}, ValueError, "out_dtype must be 'bfloat16' or 'float32', not None"),
        ({"out_dtype": 3}, ValueError, "out_dtype must be 'bfloat16' or 'float32', not 3"),
        ({"scale": [1.0, 2.0]}, ValueError, r"scale must be 3 numbers, one per query head, not of shape \(2,\)"),
        ({"scale": [1.0, 1e-40, 2.0]}, ValueError, "scale must be zero or a finite number whose product"),
        ({"scale": ["a", "b", "c"]}, TypeError, "scale must be numbers, one per query head"),
        ({"scale": [[1.0], [1.0, 2.0]]}, TypeError, "scale must be numbers, one per query head"),
        ({"scale": [1e39, 1.0, 1.0]}, ValueError, "scale must be finite in float32"),
        ({"scale": 10**400}, TypeError, "scale must be a number, one per query head, or None, not 1000"),
        ({"scale": {1.0}}, TypeError, r"scale must be a number, one per query head, or None, not \{1.0\}"),
        ({"temperature": [[1.0], [1.0, 2.0]]}, TypeError, "temperature must be a number or an array of numbers"),
        ({"timeout": np.float32(0)}, ValueError, "timeout must be greater than 0, not"),
        ({"timeout": True}, TypeError, "timeout must be a number of seconds or None, not True"),
        ({"temperature": 0}, ValueError, "temperature must be finite and greater than 0"),
        ({"temperature": np.inf}, ValueError, "temperature must be finite and greater than 0"),
        ({"temperature": [1.0] * 3}, ValueError, r"temperature must broadcast to \(2, 3, 4\), not be of shape \(3,\)"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number or an array of numbers, not 'hot'"),
        ({"temperature": 1e-39}, ValueError, r"scale · log2\(e\) / temperature must be a normal float32"),
        ({"alibi_slopes": [1.0]}, ValueError, "alibi_slopes must be 3 numbers, one per query head"),
        ({"alibi_slopes": [1.0, np.nan, 2.0]}, ValueError, "alibi_slopes must be finite"),
        ({"alibi_slopes": [1.0] * 3, "keys": 65537}, ValueError, "keys must be at most 65536 with alibi_slopes, not 65537"),
        ({"alibi_slopes": [1e30] * 3, "scale": 1e-30}, ValueError, "alibi_slopes / scale must be finite in bfloat16"),
        ({"alibi_slopes": [1e39, 0.0, 0.0]}, ValueError, "alibi_slopes must be finite in float32"),
        ({"sink": [1e39, 0.0, 0.0]}, ValueError, r"sink must be finite in float32 or -inf, not \[1e\+39, 0.0, 0.0\]"),
        ({"sink": [-1e39, 0.0, 0.0]}, ValueError, "sink must be finite in float32 or -inf"),
        ({"sink": [np.nan, 0.0, 0.0]}, ValueError, "sink must be finite in float32 or -inf"),
        ({"sink": 1.0}, ValueError, r"sink must be 3 numbers, one per query head, not of shape \(\)"),
        ({"state": 3}, TypeError, "state must be a fusemax.State or None, not 3"),
        ({"state": STATE, "queries": 5}, ValueError, r"state must broadcast to \(2, 3, 5, 2\), not be of shape \(3, 4, 2\)"),
        ({"state": STATE, "leading": (3,), "f": 3}, ValueError, r"state must broadcast to \(3, 4, 3\)"),
    ],
)
def test_wrong_options(options: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        request(**options)


def test_masks() -> None:
    assert request().mask == Mask()
    assert request(causal=True, query_offset=np.int64(3)).mask == Mask(right=0, offsets=(3,))
    assert request(window=(-1, 2), query_offset=[1, -2]).mask == Mask(right=2, offsets=(1, -2))
    # Causal bounds a window further; a prefix may be longer than the keys.
    assert request(window=[4, 2], causal=np.True_, prefix=9).mask == Mask(left=4, right=0, prefixes=(9,))
    assert request(key_lengths=np.array([0, 5]), prefix=[1, 2]).mask == Mask(key_lengths=(0, 5), prefixes=(1, 2))
    assert request(key_start=[5, 0]).mask == Mask(key_starts=(5, 0))
    assert request(key_start=np.uint8(2)).mask == Mask(key_starts=(2,))


def test_factors() -> None:
    log2_e = np.log2(np.e)
    assert request(scale=0.5).call(CONFIGS["tiny"]).scale == np.float32(0.5 * log2_e)
    factor = request(scale=[0.5, -1, 2], temperature=[[2.0], [4.0], [1.0]]).call(CONFIGS["tiny"]).scale
    assert factor.shape == (2, 3, 4)
    np.testing.assert_array_equal(factor[1, :, 0], np.float32([0.25 * log2_e, -0.25 * log2_e, 2 * log2_e]))


def test_numbers_of_any_kind() -> None:
    """bfloat16, arrays without axes and NumPy's numbers are as good as Python's."""
    config = CONFIGS["tiny"]
    half = ml_dtypes.bfloat16(0.5)
    for scale in (half, np.array(0.5), np.float16(0.5)):
        assert request(scale=scale).call(config).scale == request(scale=0.5).call(config).scale
    for name in ("scale", "temperature"):
        given = [request(**{name: np.full(3, 0.5, dtype)}, queries=3).call(config).scale for dtype in (np.float32, type(half))]
        np.testing.assert_array_equal(*given)
    assert request(sink=np.full(3, half)).call(config).raw_out
    assert not request(sink=[-np.inf] * 3).call(config).raw_out
    assert request(alibi_slopes=np.full(3, half)).extra_columns == 4
    assert request(query_offset=1 << 70).mask == Mask(offsets=(1 << 70,))
    assert request(timeout=np.float32(2)).call(config).timeout == 2


@pytest.mark.parametrize("options", [{"return_lse": True}, {"sink": [0.0] * 3}])
def test_alibi_moves_states_by_no_more_than_float32_holds(options: dict) -> None:
    far = {"alibi_slopes": [-0.5, 0.0, 0.25], "query_offset": [10, -(1 << 26)]}
    request(**far).call(CONFIGS["tiny"])
    with pytest.raises(ValueError, match=r"must stay within ±16777216 for states and log-sum-exp, but come to 3.355e\+07"):
        request(**far, **options).call(CONFIGS["tiny"])
    request(**far | {"query_offset": [10, -(1 << 24)]}, **options).call(CONFIGS["tiny"])


@pytest.mark.parametrize(
    ("options", "float32_out", "state_out", "raw_out"),
    [
        ({}, False, False, False),
        ({"out_dtype": "float32"}, True, False, False),
        ({"return_lse": True}, False, True, False),
        ({"return_state": True}, True, True, True),
        ({"sink": [0.0] * 3}, True, True, True),
        ({"state": STATE}, True, True, True),
    ],
)
def test_what_the_driver_is_asked_for(options: dict, float32_out: bool, state_out: bool, raw_out: bool) -> None:
    call = request(**options).call(CONFIGS["tiny"])
    assert (call.float32_out, call.state_out, call.raw_out) == (float32_out, state_out, raw_out)


def test_a_narrow_bus_has_no_states() -> None:
    narrow = Config(name="narrow", rows=4, columns=4, bus_bits=32)
    request(temperature=2.0).call(narrow)
    with pytest.raises(ValueError, match="bus_bits of 'narrow' must be at least 64 for states and log-sum-exp, not 32"):
        request(return_lse=True).call(narrow)

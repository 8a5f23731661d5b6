"""Masks that are intervals are found again, and no other is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from attention_reference import visible_keys
from hypothesis import given, settings
from hypothesis import strategies as st

from fusemax.runtime.mask_intervals import interval_options


def mask_of(options: dict, batch: int, positions: int, keys: int) -> np.ndarray:
    """(batch, P, M) of the options, by the definition."""
    found = np.empty((batch, positions, keys), np.bool_)
    starts = np.broadcast_to(options.get("key_start", 0), batch)
    lengths = np.broadcast_to(options.get("key_lengths", keys), batch)
    offsets = np.broadcast_to(options.get("query_offset", 0), batch)
    for entry, position in np.ndindex(batch, positions):
        place = position + offsets[entry]
        window, causal = options.get("window"), options.get("causal", False)
        found[entry, position] = visible_keys(place, keys, window, causal, lengths[entry], 0, starts[entry])
    return found


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_intervals_are_found(data: st.DataObject) -> None:
    batch, positions, keys = (data.draw(st.integers(1, most)) for most in (3, 7, 9))
    offsets = st.integers(-4, 12)
    options: dict = {"query_offset": data.draw(st.lists(offsets, min_size=batch, max_size=batch) | offsets)}
    if data.draw(st.booleans()):
        options["causal"] = True
    if data.draw(st.booleans()):
        options["window"] = data.draw(st.tuples(st.integers(-1, 5), st.integers(-1, 5)))
    for name in ("key_start", "key_lengths"):
        if data.draw(st.booleans()):
            options[name] = data.draw(st.lists(st.integers(0, keys), min_size=batch, max_size=batch))
    mask = mask_of(options, batch, positions, keys)
    found = interval_options(mask[:, None])
    # Where two entries explain their empty rows in different ways, one bound for both may not be found.
    if found is None:
        assert not mask.any(axis=-1).all()
        return
    np.testing.assert_array_equal(mask_of(found, batch, positions, keys), mask)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_found_is_the_mask(data: st.DataObject) -> None:
    shape = tuple(data.draw(st.integers(1, most)) for most in (2, 2, 3, 4))
    bits = data.draw(st.integers(0, (1 << int(np.prod(shape))) - 1))
    mask = np.array([bits >> number & 1 for number in range(int(np.prod(shape)))], np.bool_).reshape(shape)
    found = interval_options(mask)
    if found is not None:
        np.testing.assert_array_equal(np.broadcast_to(mask_of(found, *(shape[0], *shape[2:]))[:, None], shape), mask)


@pytest.mark.parametrize(
    ("options", "positions"),
    [
        ({}, 5),
        ({"causal": True, "query_offset": 0}, 8),
        ({"causal": True, "query_offset": 5}, 3),
        ({"causal": True, "query_offset": 0, "window": (3, -1)}, 8),
        ({"causal": True, "query_offset": 0, "key_start": [0, 3]}, 8),
        ({"key_lengths": [8, 5]}, 8),
        ({"key_start": [2, 7]}, 1),
        ({"query_offset": -2, "window": (0, -1)}, 8),
        ({"causal": True, "query_offset": [5, 3]}, 3),
        ({"causal": True, "query_offset": [5, 3], "window": (2, -1)}, 3),
        ({"causal": True, "query_offset": 2, "window": (4, -1)}, 8),
    ],
)
def test_what_models_use(options: dict, positions: int) -> None:
    """Causal masks, decoding, windows, padding on either side; also where heads are broadcast."""
    mask = mask_of(options, 2, positions, 8)
    assert interval_options(mask[:, None]) == options
    assert interval_options(np.broadcast_to(mask[:, None], (2, 4, positions, 8))) == options
    assert interval_options(np.repeat(mask[:, None], 4, axis=1)) == options


def test_masks_of_one_head_and_of_none() -> None:
    causal = np.tri(4, dtype=np.bool_)
    assert interval_options(causal) == {"causal": True, "query_offset": 0}
    assert interval_options(np.stack([causal, causal])) == {"causal": True, "query_offset": 0}
    assert interval_options(np.stack([causal, ~causal])) is None
    assert interval_options(np.broadcast_to(causal, (3, 2, 4, 4))) == {"causal": True, "query_offset": 0}
    assert interval_options(np.zeros((2, 1, 4, 6), np.bool_)) == {"key_lengths": [0, 0]}
    assert interval_options(np.zeros((2, 1, 0, 6), np.bool_)) is None


@pytest.mark.parametrize(
    "mask",
    [
        np.array([[True, False, True]]),
        np.array([[True, False], [True, True], [True, False]]),
        np.kron(np.eye(2, dtype=np.bool_), np.ones((3, 3), np.bool_)),
    ],
    ids=["hole", "wider and narrower", "blocks"],
)
def test_other_masks_are_not(mask: np.ndarray) -> None:
    assert interval_options(mask) is None

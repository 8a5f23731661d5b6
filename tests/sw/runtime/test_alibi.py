"""ALiBi's columns; results are in test_features."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusemax.runtime.alibi import Alibi
from fusemax.spec import CONFIGS


@pytest.mark.parametrize(
    ("slopes", "scale", "columns"),
    [
        ([0.5, 2.0**-8, 0.0], 0.125, 2),
        ([0.5, 0.25, 0.75], 0.125, 2),
        ([0.5, 0.25, 0.3], 0.125, 4),
        ([0.5, 0.25, 0.125], 0.3, 4),
    ],
)
def test_columns_of_alibi(slopes: list[float], scale: float, columns: int) -> None:
    """Their products are slope / scale · position, within 2^-16."""
    made = Alibi(np.float32(slopes), scale)
    assert made.columns == columns
    q, k = made.extend(np.zeros((2, 3, 4, 8), np.uint16), np.zeros((2, 1, 1000, 8), np.uint16), np.arange(1000)[None])
    assert q.shape == (2, 3, 4, 8 + columns) and k.shape == (2, 1, 1000, 8 + columns)
    q, k = (x[..., 8:].view(ml_dtypes.bfloat16).astype(np.float64) for x in (q, k))
    products = q @ k.swapaxes(-1, -2)
    expected = np.array(slopes)[:, None, None] / scale * np.arange(1000)
    np.testing.assert_allclose(products, np.broadcast_to(expected, products.shape), rtol=2.0**-16)


def test_what_is_added_at_the_place_of_the_query() -> None:
    """slope · place, as the machine rounds the slope; a factor per row divides by its temperature."""
    slopes = np.float32([0.5, 0.3])
    factor = np.float32(np.log2(np.e)) * np.float32([[[0.125, 0.0625], [0.125, 0.0625]]])
    added = Alibi(slopes, 0.125).added(CONFIGS["tiny"], factor, np.array([3, 1000]))
    expected = slopes[None, :, None] * np.array([3, 1000]) * [1, 0.5]
    np.testing.assert_allclose(added, expected, rtol=2.0**-15)

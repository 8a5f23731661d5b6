"""Heads of a real transformer on the emitted Verilog: the model's bits, within the error budgets."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from fusemax.evaluation import exact, minilm

pytestmark = pytest.mark.cosim


@pytest.mark.parametrize("config", ["base", "small"])
@pytest.mark.parametrize("layer", [0, 1])
def test_heads(open_pair, config: str, layer: int) -> None:
    pair = open_pair(config, stall_probability=0.1, seed=layer)
    data = minilm.load()
    heads = slice(5 * layer, 5 * layer + 2)
    q, k, v = (x[layer, heads] for x in (data.q, data.k, data.v))
    expected = exact.attention(q, k, v)
    whole = pair(q, k, v, out_dtype="float32")
    rounded = pair(q, k, v, out_dtype="bfloat16")
    assert pair.rtl.counters.jobs == 1
    for head in range(2):
        assert exact.relative_error(whole[head], expected[head]) <= 1e-4
        unavoidable = exact.relative_error(expected[head].astype(ml_dtypes.bfloat16), expected[head])
        assert exact.relative_error(rounded[head], expected[head]) <= 1.03 * unavoidable


def test_both_layers_in_one_job(open_pair) -> None:
    pair = open_pair("base")
    data = minilm.load()
    q, k, v = (x[:, 3:5] for x in (data.q, data.k, data.v))
    together = pair(q, k, v)
    assert pair.rtl.counters.jobs == 1
    alone = np.stack([[pair(q[layer, head], k[layer, head], v[layer, head]) for head in range(2)] for layer in range(2)])
    np.testing.assert_array_equal(together, alone)

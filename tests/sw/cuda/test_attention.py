"""Attention of tensors against the model device, every bit, with every option."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from attention_problems import MACHINES, Problem, problems
from gpu_place import INTERPRETER, PLACE, all_bits, tensor, torch
from hypothesis import HealthCheck, given, settings

import fusemax
from fusemax import State
from fusemax.errors import NonFiniteError, ScoreOverflowError

pytestmark = INTERPRETER

#: Random calls; the interpreter takes seconds for each.
PROBLEMS = int(os.environ.get("FUSEMAX_CUDA_PROBLEMS", "4"))

#: Options for two batch entries of four query heads, 7 queries and 21 keys.
FEATURES: dict[str, dict] = {
    "plain": {},
    "causal_at_the_end": {"causal": True, "query_offset": 14, "return_lse": True},
    "causal_before_the_keys": {"causal": True, "query_offset": -3, "out_dtype": "float32"},
    "offset_per_entry": {"causal": True, "query_offset": [-7, 16], "return_lse": True},
    "window": {"window": (3, 2), "query_offset": 5},
    "key_lengths": {"key_lengths": [0, 17], "return_lse": True},
    "prefix_and_window": {"prefix": [3, 11], "window": (2, 1), "query_offset": 9},
    "all_masks": {"causal": True, "window": (6, 3), "prefix": [2, 0], "key_lengths": [18, 9], "query_offset": [9, -3]},
    "scales": {"scale": [0.1, -0.2, 0.3, 0.05]},
    "temperatures": {"temperature": np.linspace(0.4, 3, 7).tolist(), "causal": True},
    "alibi": {"alibi_slopes": [-0.5, -0.25, 0.0, 1.0], "causal": True, "query_offset": 14, "return_lse": True},
    "alibi_inexact": {"alibi_slopes": [-0.3, 0.1, -0.7, 0.01], "return_state": True},
    "sinks": {"sink": [0.0, 3.0, -60.0, 8.0], "causal": True, "query_offset": -3, "return_lse": True},
    "state": {"return_state": True, "return_lse": True, "out_dtype": "float32"},
    "key_start": {"key_start": [4, 0], "causal": True, "query_offset": 14},
    "no_scale": {"scale": 0},
}


def compare(problem: Problem) -> None:
    """The same bits from the function and from the model device."""
    config = MACHINES[problem.config]
    with fusemax.open("model", config, memory_bytes=1 << 22) as device:
        expected = all_bits(problem.run(device))
    state = problem.state()
    options = problem.options | ({} if state is None else {"state": State(*state)})
    found = fusemax.cuda.attention(*(tensor(array) for array in problem.arrays()), config=config, **options)
    assert all_bits(found) == expected, problem


@pytest.mark.parametrize("name", FEATURES)
def test_each_feature(name: str) -> None:
    number = list(FEATURES).index(name)
    share = (1, 2, 4)[number % 3]
    compare(
        Problem(
            config=list(MACHINES)[number % len(MACHINES)],
            seed=number,
            leading=(2, 4 // share),
            share=share,
            queries=7,
            keys=21,
            e=8,
            f=4 if number % 2 else 5,
            in_dtype="bfloat16" if number % 3 else "float32",
            layout="length" if number % 2 else "heads",
            initial=7 if number % 4 == 1 else None,
            options=FEATURES[name],
        )
    )


@settings(max_examples=PROBLEMS, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(problems(most=10))
def test_random_calls(problem: Problem) -> None:
    compare(replace(problem, share=min(problem.share, 2)) if not _per_head(problem) else problem)


def _per_head(problem: Problem) -> bool:
    """Some option has a number per query head, whose number must stay."""
    return any(isinstance(value, list) for value in problem.options.values())


def test_options_may_be_tensors() -> None:
    arrays = Problem(leading=(2, 2), queries=3, keys=5, e=4, f=4).arrays()
    options = {"sink": np.float32([0.5, -1.0]), "key_lengths": np.int64([2, 5]), "temperature": np.float32([[0.5], [2.0]])}
    expected = fusemax.cuda.attention(*map(tensor, arrays), **options)
    found = fusemax.cuda.attention(*map(tensor, arrays), **{name: torch.from_numpy(value) for name, value in options.items()})
    assert all_bits(found) == all_bits(expected)


def test_no_queries() -> None:
    q, k, v = Problem(leading=(2,), queries=3, keys=5, e=4, f=4).arrays()
    found = fusemax.cuda.attention(*map(tensor, (q[:, :0], k, v)))
    assert (found.shape, found.dtype) == ((2, 0, 4), torch.bfloat16)


def test_float16() -> None:
    arrays = [array.astype(np.float16) for array in Problem(queries=3, keys=5, e=4, f=4, in_dtype="float32").arrays()]
    expected = fusemax.attention(*arrays)
    assert all_bits(fusemax.cuda.attention(*map(tensor, arrays))) == all_bits(expected)


def test_views_of_tensors() -> None:
    """Heads behind lengths, and every second element of the head dim."""
    arrays = Problem(leading=(2,), queries=3, keys=5, e=8, f=8, in_dtype="bfloat16").arrays()
    q, k, v = (tensor(np.ascontiguousarray(array.swapaxes(0, 1))).swapaxes(0, 1)[..., ::2] for array in arrays)
    expected = fusemax.cuda.attention(q.contiguous(), k.contiguous(), v.contiguous())
    assert all_bits(fusemax.cuda.attention(q, k, v)) == all_bits(expected)


def test_keys_behind_their_entrys_length_may_be_infinite() -> None:
    q, k, v = Problem(leading=(2, 1), queries=2, keys=4, e=4, f=4, in_dtype="float32").arrays()
    expected = fusemax.cuda.attention(*map(tensor, (q, k, v)), key_lengths=[4, 3])
    k[1, :, 3], v[1, :, 3] = np.inf, np.nan
    assert all_bits(fusemax.cuda.attention(*map(tensor, (q, k, v)), key_lengths=[4, 3])) == all_bits(expected)


def test_wrong_tensors() -> None:
    q, k, v = map(tensor, Problem(queries=2, keys=3, e=4, f=4, in_dtype="float32").arrays())
    with pytest.raises(TypeError, match=r"q must be a PyTorch tensor, not ndarray: fusemax\.attention takes NumPy arrays"):
        fusemax.cuda.attention(np.zeros((2, 4), np.float32), k, v)
    with pytest.raises(
        TypeError, match=r"k must be bfloat16, float16 or float32, not torch\.float64: k\.float\(\) converts it"
    ):
        fusemax.cuda.attention(q, k.double(), v)
    with pytest.raises(ValueError, match=rf"v must be on a {PLACE.type} device, not on meta"):
        fusemax.cuda.attention(q, k, v.to("meta"))
    with pytest.raises(ValueError, match="q must not need a gradient, for there is none"):
        fusemax.cuda.attention(q.clone().requires_grad_(), k, v)
    with pytest.raises(ValueError, match="the head dim of k must be that of q, 4, not 3"):
        fusemax.cuda.attention(q, k[:, :3], v)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'softcap': fusemax\.attention may have it"):
        fusemax.cuda.attention(q, k, v, softcap=5.0)
    with pytest.raises(ValueError, match="q must have length and head dim"):
        fusemax.cuda.attention(q[0], k, v)
    with pytest.raises(NonFiniteError, match=r"v must be finite in bfloat16, not inf at \(0, 0\)"):
        fusemax.cuda.attention(q, k, torch.full_like(v, torch.inf))
    with pytest.raises(ScoreOverflowError, match="scores times log2"):
        fusemax.cuda.attention(q, k, v, scale=1e6)

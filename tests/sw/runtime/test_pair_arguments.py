"""mask= and bias=: what is refused, what is the same, and how often it is in device memory."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.errors import NonFiniteError, ScoreOverflowError
from fusemax.runtime.pair_arguments import PairArguments
from fusemax.spec import CONFIGS

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SHAPE = (2, 3, 13, 37)


def arrays() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    return [random.standard_normal((*SHAPE[:2], length, 8)).astype(BFLOAT16) for length in (13, 37, 37)]


def run(**options: Any) -> np.ndarray:
    with fusemax.open("model", "tiny") as device:
        return fusemax.attention(*arrays(), device=device, out_dtype="float32", **options)


@pytest.fixture(scope="module")
def mask() -> np.ndarray:
    return np.random.default_rng(4).random(SHAPE) < 0.5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mask": np.ones((13, 37))}, TypeError, "mask must be of bool, .* not of float64: numbers that are added are a bias"),
        ({"mask": [[1]]}, TypeError, "mask must be of bool, a fusemax.PackedMask or None, not of int64"),
        ({"mask": np.ma.ones((13, 37), np.bool_)}, TypeError, "mask must be an array without a mask, not MaskedArray"),
        ({"mask": np.ones((12, 37), np.bool_)}, ValueError, r"mask must broadcast to \(2, 3, 13, 37\), not .* \(12, 37\)"),
        ({"bias": np.zeros((2, 13, 37), np.float32)}, ValueError, r"bias must broadcast to .*, not be of shape \(2, 13, 37\)"),
        ({"bias": np.zeros((13, 37), np.int32)}, TypeError, "bias must be of bfloat16, .* numbers, or None, not of int32"),
        ({"bias": np.full((13, 37), np.nan, np.float32)}, NonFiniteError, "bias must be finite, or -inf for keys that"),
        ({"bias": np.full((13, 37), np.inf, np.float32)}, NonFiniteError, "bias must be finite"),
        ({"mask": fusemax.PackedMask(np.ones((13, 37), np.bool_), "base")}, ValueError, "mask must be packed for 4 rows"),
        ({"mask": fusemax.PackedMask(np.ones((13, 1), np.bool_), "tiny")}, ValueError, "must be of all 37 keys, not of 1"),
    ],
)
def test_what_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        run(**options)


def test_masks_and_biases_as_people_have_them(mask: np.ndarray) -> None:
    """Lists, other formats, objects with DLPack: the same bits as from an array."""

    class Tensor:
        def __init__(self, array: np.ndarray) -> None:
            self.__dlpack__, self.__dlpack_device__ = array.__dlpack__, array.__dlpack_device__

    seen, bias = mask[0, 0], np.random.default_rng(5).standard_normal((13, 37)).astype(np.float16)
    bias[3, 5] = np.finfo(np.float16).min
    expected = run(mask=seen, bias=np.where(bias < -60000, -np.inf, bias.astype(np.float32)).astype(np.float32))
    lowest = np.where(bias < -60000, float(np.finfo(np.float32).min), bias.astype(np.float64))
    for given in (bias, lowest, lowest.tolist(), Tensor(bias)):
        for as_mask in (seen, seen.tolist(), Tensor(np.ascontiguousarray(seen))):
            assert run(mask=as_mask, bias=given).tobytes() == expected.tobytes()


def test_programs_and_biases_go_together() -> None:
    bias = np.zeros((13, 37), np.float32)
    with_bias, without = (fusemax.compile(head_dim=8, config="tiny", bias=has) for has in (True, False))
    assert run(bias=bias, program=with_bias).tobytes() == run(bias=bias).tobytes()
    with pytest.raises(ValueError, match="program must be one that was compiled with bias=True, since there is a bias"):
        run(bias=bias, program=without)
    with pytest.raises(ValueError, match="bias must be given with a program that was compiled with bias=True"):
        run(program=with_bias)


@pytest.mark.parametrize("dtype", [np.dtype(np.float32), BFLOAT16])
@pytest.mark.parametrize("hidden", [-np.inf, "lowest"])
def test_a_bias_that_hides_is_a_mask(mask: np.ndarray, dtype: np.dtype, hidden: float | str) -> None:
    lowest = ml_dtypes.finfo(dtype).min if hidden == "lowest" else hidden
    bias = np.where(mask, 0, lowest).astype(dtype)
    assert run(bias=bias).tobytes() == run(mask=mask, bias=np.zeros((1, 1), dtype)).tobytes()


def test_a_mask_of_an_interval_is_a_window(mask: np.ndarray) -> None:
    place, key = np.arange(13)[:, None], np.arange(37)
    seen = (key <= place + 9) & (key >= place - 2)
    assert run(mask=seen).tobytes() == run(window=(2, 9)).tobytes()
    assert run(mask=seen & mask).tobytes() == run(mask=mask, window=(2, 9)).tobytes()
    assert run(mask=np.ones((1, 37), np.bool_)).tobytes() == run().tobytes()
    assert not run(mask=np.zeros((1, 37), np.bool_)).any()


def test_packed_or_not(mask: np.ndarray) -> None:
    assert run(mask=fusemax.PackedMask(mask, "tiny")).tobytes() == run(mask=mask).tobytes()
    one = mask[:1, :1]
    assert run(mask=fusemax.PackedMask(one[0, 0], "tiny")).tobytes() == run(mask=one).tobytes()
    bias = np.where(mask[1], 0.25, -np.inf).astype(np.float32)
    packed = fusemax.PackedMask(one, "tiny")
    assert run(mask=packed, bias=bias).tobytes() == run(mask=one & mask[1], bias=np.full((1, 1), 0.25, np.float32)).tobytes()


@pytest.mark.parametrize("axes", [(1, 1, 13, 37), (2, 1, 13, 37), (1, 3, 13, 37), (1, 1, 1, 37), (13, 1)])
def test_what_is_the_same_is_there_once(axes: tuple[int, ...]) -> None:
    """Bytes in device memory are those of the axes that the array has."""
    config = CONFIGS["base"]
    pairs = PairArguments({"mask": np.ones(axes, np.bool_), "bias": np.zeros(axes, np.float32)}, SHAPE, None).pack(config).rows
    leading = (*(1,) * (4 - len(axes)), *axes)[:3]
    assert pairs["m"].rows.shape == (*leading, 16)
    assert pairs["b"].rows.shape == (*leading, 3 * 32)


def test_submitted(mask: np.ndarray) -> None:
    bias = np.random.default_rng(5).standard_normal(SHAPE).astype(np.float32)
    with fusemax.open("model", "tiny") as device:
        futures = [device.submit(*arrays(), out_dtype="float32", **options) for options in ({"mask": mask}, {"bias": bias})]
        results = [future.result() for future in futures]
    assert [found.tobytes() for found in results] == [run(mask=mask).tobytes(), run(bias=bias).tobytes()]


def test_with_a_cache(mask: np.ndarray) -> None:
    """Keys in pages that lie apart; pages begin with a tile."""
    q, k, v = arrays()
    seen, bias = mask[..., :25], np.random.default_rng(7).standard_normal((1, 1, 13, 25)).astype(np.float32)
    with fusemax.open("model", "tiny") as device, fusemax.KVCache(device, heads=3, e=8, page_size=8, pages=20) as cache:
        for name in ("a", "between", "b"):
            cache.allocate(name)
        for start in range(0, 25, 5):
            for number, name in enumerate(("a", "b")):
                cache.append(name, *(x[number, :, start : start + 5] for x in (k, v)))
                cache.append("between", *(x[0, :, :3] for x in (k, v)))
        found = cache.attend(q, ["a", "b"], mask=seen, bias=bias, out_dtype="float32")
    with fusemax.open("model", "tiny") as device:
        keys = (x[..., :25, :] for x in (k, v))
        expected = fusemax.attention(q, *keys, device=device, mask=seen, bias=bias, out_dtype="float32")
    assert found.tobytes() == expected.tobytes()


def test_in_parts(mask: np.ndarray) -> None:
    """Device memory has room for a head at a time."""
    bias = np.random.default_rng(6).standard_normal(SHAPE).astype(np.float32)
    expected = run(mask=mask, bias=bias, causal=True, query_offset=20)
    with fusemax.open("model", "tiny", memory_bytes=3 << 12) as device:
        found = fusemax.attention(
            *arrays(), device=device, out_dtype="float32", mask=mask, bias=bias, causal=True, query_offset=20
        )
    assert found.tobytes() == expected.tobytes()


def test_scores_that_leave_their_range() -> None:
    for dtype in (np.dtype(np.float32), BFLOAT16):
        with pytest.raises(ScoreOverflowError):
            run(bias=np.full((1, 1), 3e4, dtype))
        # Where nobody sees it, it may be anything.
        large = np.where(np.arange(37) < 5, 1e30, 0).astype(dtype)[None]
        run(bias=large, mask=np.arange(37)[None] >= 5)
    assert np.isfinite(run(bias=np.full((1, 1), 2e4, np.float32))).all()

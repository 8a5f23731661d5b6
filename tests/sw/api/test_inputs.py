"""What people pass to fusemax.attention: formats, objects, shapes, empty calls, numbers that nobody sees."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.errors import NonFiniteError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", "tiny") as opened:
        yield opened


def same(result: np.ndarray, expected: np.ndarray) -> None:
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result.view(f"u{result.itemsize}"), expected.view(f"u{expected.itemsize}"))


# -- formats and objects -----------------------------------------------------------------------------------------------


class OnlyArray:
    """An object that NumPy can read."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array


class OnlyDlpack:
    """An object that gives its memory through DLPack."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("wrap", [lambda array: array, OnlyArray, OnlyDlpack, np.ndarray.tolist])
def test_floats_are_rounded_once(device: fusemax.Device, dtype: type, wrap: Any) -> None:
    given = [random(2, 5, 6, seed=seed).astype(dtype) for seed in range(3)]
    rounded = [fusemax.arith.bf16.round_float64(array.astype(np.float64)) for array in given]
    same(fusemax.attention(*map(wrap, given), device=device), fusemax.attention(*rounded, device=device))


def test_float64_is_not_rounded_to_float32_in_between(device: fusemax.Device) -> None:
    """Just above half way between two bfloat16 numbers; float32 would make it half way, which is rounded to even."""
    one = np.ones((1, 1))
    value = 1 + 2.0**-8 + 2.0**-40
    assert fusemax.attention(one, one, one * value, device=device)[0, 0] == 1 + 2.0**-7
    assert fusemax.attention(one, one, (one * value).astype(np.float32), device=device)[0, 0] == 1


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.ones((2, 2), np.complex64), "q must be of bfloat16, float16, float32 or float64 numbers, not complex64"),
        ([[1.0, 2.0], [3.0]], "q must be an array of numbers, not list"),
        ([["a"]], "q must be of bfloat16, float16, float32 or float64 numbers, not <U1"),
        (None, "q must be of bfloat16, float16, float32 or float64 numbers, not object"),
        (np.ma.masked_array(np.ones((2, 2))), "q must be an array without a mask, not MaskedArray"),
    ],
)
def test_other_things_are_refused(device: fusemax.Device, value: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        fusemax.attention(value, np.ones((2, 2)), np.ones((2, 2)), device=device)


@pytest.mark.parametrize("name", ["float32", np.float32, np.dtype("float32"), np.dtype("<f4")])
def test_format_of_the_result(device: fusemax.Device, name: Any) -> None:
    q = random(3, 4)
    same(
        fusemax.attention(q, q, q, device=device, out_dtype=name),
        fusemax.attention(q, q, q, device=device, out_dtype="float32"),
    )
    assert fusemax.attention(q, q, q, device=device, out_dtype=BFLOAT16).dtype == BFLOAT16
    state = fusemax.attention(q, q, q, device=device, out_dtype=name, return_state=True)[1]
    assert state.output(ml_dtypes.bfloat16).dtype == BFLOAT16


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("is_causal", "is_causal is called causal here"),
        ("attn_mask", "attn_mask is called mask here"),
        ("dropout_p", "nothing is dropped here"),
        ("enable_gqa", "k and v may have fewer heads than q here"),
        ("softmax_scale", "softmax_scale is called scale here"),
        ("window_size", "window_size is called window here"),
    ],
)
def test_names_of_others_are_told(device: fusemax.Device, name: str, told: str) -> None:
    q = random(3, 4)
    with pytest.raises(TypeError, match=rf"attention\(\) got an unexpected keyword argument '{name}': .*{told}"):
        fusemax.attention(q, q, q, device=device, **{name: True})
    with pytest.raises(TypeError, match=rf"submit\(\) got .*{told}"):
        device.submit(q, q, q, **{name: True})


# -- shapes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("e", [5, 8])
@pytest.mark.parametrize(
    ("q", "k", "v"),
    [((2, 4), (1, 2), (2, 2)), ((3, 1, 2), (2, 1), (3, 2, 1)), ((2,), (), ()), ((), (2, 1), (1,)), ((4, 2), (2,), (2,))],
)
def test_batch_axes_broadcast(device: fusemax.Device, q: tuple, k: tuple, v: tuple, e: int) -> None:
    """Also where one batch entry's rows are whole bus words, which stay as they lie."""
    arrays = [random(*leading, length, e, seed=e).astype(BFLOAT16) for leading, length in ((q, 3), (k, 7), (v, 7))]
    axes = max(len(q), len(k), len(v))
    full = [array.reshape((1,) * (axes + 2 - array.ndim) + array.shape) for array in arrays]
    batch = np.broadcast_shapes(*(array.shape[:-3] for array in full))
    full = [np.broadcast_to(array, (*batch, *array.shape[-3:])).copy() for array in full]
    options = {"device": device, "causal": True, "query_offset": 3}
    same(fusemax.attention(*arrays, **options), fusemax.attention(*full, **options))


def test_batch_axes_that_do_not_broadcast(device: fusemax.Device) -> None:
    q, k = random(2, 1, 3, 4), random(3, 1, 3, 4)
    with pytest.raises(ValueError, match=r"the batch axes of q, k and v must broadcast, not be \(2,\), \(3,\), \(3,\)"):
        fusemax.attention(q, k, k, device=device)
    with pytest.raises(ValueError, match="the heads of q must be a multiple of those of k and v, 0, not 2"):
        fusemax.attention(random(2, 3, 4), random(0, 3, 4), random(0, 3, 4), device=device)


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 0), (0, 3, 4), (2, 0, 4)])
def test_empty_results(device: fusemax.Device, shape: tuple[int, int, int], submitted: bool) -> None:
    batch, heads, _ = shape
    q, k, v = random(*shape, 6), random(batch, heads, 7, 6), random(batch, heads, 7, 5)
    options = {"return_lse": True, "key_lengths": [3] * batch, "sink": [1.0] * heads, "alibi_slopes": [0.5] * heads}
    if submitted:
        out, lse = device.submit(q, k, v, **options).result()
    else:
        out, lse = fusemax.attention(q, k, v, device=device, **options)
        assert device.counters.cycles == 0
    assert out.shape == (*shape, 5) and lse.shape == shape
    assert fusemax.attention(q, k, v).shape == (*shape, 5)


@pytest.mark.parametrize("submitted", [False, True])
def test_without_keys(device: fusemax.Device, submitted: bool) -> None:
    q, k, v = random(2, 3, 4), random(2, 0, 4), random(2, 0, 5)

    def call(**options: Any) -> Any:
        if submitted:
            return device.submit(q, k, v, **options).result()
        return fusemax.attention(q, k, v, device=device, **options)

    out, lse = call(return_lse=True, causal=True)
    assert out.shape == (2, 3, 5) and not out.any() and (lse == -np.inf).all()
    assert call(out_dtype="float32").dtype == np.float32
    # What comes before the keys is all there is.
    state = fusemax.State(*(random(2, 3).astype(np.float32) ** 2 for _ in range(2)), random(2, 3, 5).astype(np.float32))
    out, lse = call(state=state, return_lse=True, out_dtype="float32")
    np.testing.assert_array_equal(out, state.output())
    np.testing.assert_array_equal(lse, state.lse())
    assert call(return_state=True)[1].denominator.sum() == 0


def test_a_forgotten_call_without_keys(device: fusemax.Device) -> None:
    q, k = random(3, 4), random(0, 4)
    submission = device.submit(q, k, k)
    assert submission.done()
    del submission
    same(device.submit(q, q, q).result(), fusemax.attention(q, q, q, device=device))


# -- scales and sinks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0, -0.0, [0.0, 0.0]])
def test_a_scale_of_zero_gives_the_mean(device: fusemax.Device, scale: Any) -> None:
    q, k, v = random(2, 5, 4) * 1e30, random(2, 8, 4) * 1e30, random(2, 8, 3).astype(BFLOAT16)
    out, lse = fusemax.attention(q, k, v, scale, device, out_dtype="float32", return_lse=True, temperature=0.5)
    mean = v.astype(np.float64).mean(axis=-2, keepdims=True)
    np.testing.assert_allclose(out, np.broadcast_to(mean, out.shape), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(lse, np.log(8), rtol=1e-6)
    causal = fusemax.attention(q, k, v, scale, device, out_dtype="float32", causal=True)
    np.testing.assert_allclose(causal[:, 1], v[:, :2].astype(np.float64).mean(axis=-2), rtol=2e-6, atol=1e-7)


def test_a_sink_of_minus_infinity_is_none(device: fusemax.Device) -> None:
    q, k, v = random(2, 5, 4), random(2, 8, 4), random(2, 8, 3)
    none = fusemax.attention(q, k, v, device=device)
    same(fusemax.attention(q, k, v, device=device, sink=[-np.inf, -np.inf]), none)
    out, lse = fusemax.attention(q, k, v, device=device, sink=[-np.inf, 1.0], return_lse=True, out_dtype="float32")
    expected, expected_lse = fusemax.attention(q, k, v, device=device, return_lse=True, out_dtype="float32")
    np.testing.assert_allclose(out[0], expected[0], rtol=1e-6)
    np.testing.assert_array_equal(lse[0], expected_lse[0])
    assert (np.abs(out[1]) < np.abs(expected[1])).all()


# -- key_start, and numbers that nobody sees ---------------------------------------------------------------------------


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("layout", ["heads", "length"])
def test_left_padding_has_the_bits_of_the_keys_alone(device: fusemax.Device, layout: str, submitted: bool) -> None:
    starts, queries, keys = [0, 3, 10, 13], 3, 13
    q, k, v = random(4, 4, queries, 8), random(4, 2, keys, 8), random(4, 2, keys, 8)
    if layout == "length":
        q, k, v = (np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in (q, k, v))
    q, k, v = (x.astype(BFLOAT16) for x in (q, k, v))
    options: dict[str, Any] = {"causal": True, "window": (5, 0), "return_lse": True, "out_dtype": "float32"}
    options |= {"alibi_slopes": [0.25, 0.3, 0.0, 1.0]}
    more = {"key_start": starts, "query_offset": keys - queries, "prefix": 4}
    if submitted:
        out, lse = device.submit(q, k, v, **options, **more).result()
    else:
        out, lse = fusemax.attention(q, k, v, device=device, **options, **more)
    for entry, start in enumerate(starts):
        alone = fusemax.attention(
            *(q[entry], k[entry, :, start:], v[entry, :, start:]),
            device=device,
            query_offset=keys - queries - start,
            prefix=max(0, 4 - start),
            **options,
        )
        same(out[entry], alone[0])
        np.testing.assert_array_equal(lse[entry], alone[1])


def test_padding_on_the_left_leaves_tiles_out(device: fusemax.Device) -> None:
    q = random(4, 1, 4, 8)
    fusemax.attention(q[..., :1, :], np.repeat(q, 8, axis=2), np.repeat(q, 8, axis=2), device=device, key_start=[31, 28, 8, 0])
    assert device.counters.tiles == 1 + 1 + 6 + 8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_nobody_sees_may_be_anything(device: fusemax.Device, bad: float) -> None:
    q, k, v = random(2, 2, 4, 6), random(2, 2, 9, 6), random(2, 2, 9, 5)
    options: dict[str, Any] = {"device": device, "causal": True, "query_offset": 2, "key_start": [1, 4], "key_lengths": [5, 9]}
    expected = fusemax.attention(q, k, v, **options)
    # Keys in front of the first, behind the last, and behind the last query's place; queries that see no key.
    for array in (k, v):
        array[0, :, :1] = array[0, :, 5:] = array[1, :, :4] = array[1, :, 6:] = bad
    q[1, :, :2] = bad
    same(fusemax.attention(q, k, v, **options), expected)
    for array, place in ((q, (1, 0, 2, 0)), (k, (0, 0, 1, 0)), (v, (1, 1, 5, 3))):
        one = [x.copy() for x in (q, k, v)]
        next(new for new, old in zip(one, (q, k, v), strict=True) if old is array)[place] = bad
        with pytest.raises(
            NonFiniteError, match=f"must be finite in bfloat16, not {bad} at \\({', '.join(map(str, place))}\\)"
        ):
            fusemax.attention(*one, **options)
    with pytest.raises(NonFiniteError):
        fusemax.attention(q, k, v, **options | {"key_start": [0, 4]})


def test_the_prefix_is_seen(device: fusemax.Device) -> None:
    q, k, v = random(2, 6), random(9, 6), random(9, 5)
    k[4], v[6] = np.nan, np.inf
    options: dict[str, Any] = {"device": device, "window": (0, 0), "query_offset": 7}
    fusemax.attention(q, k, v, prefix=4, **options)
    with pytest.raises(NonFiniteError, match=r"k must be finite in bfloat16, not nan at \(4, 0\)"):
        fusemax.attention(q, k, v, prefix=5, **options)


def test_integers_are_no_queries_of_a_cache(device: fusemax.Device) -> None:
    with fusemax.KVCache(device, heads=1, e=4, pages=2, page_size=4) as cache:
        cache.allocate("a")
        cache.append("a", random(1, 3, 4), random(1, 3, 4).astype(np.float16).tolist())
        assert cache.attend(random(1, 2, 0, 4), ["a"]).shape == (1, 2, 0, 4)
        assert cache.attend(random(1, 2, 1, 4), ["a"]).any()
        with pytest.raises(TypeError, match="q must be of bfloat16, float16, float32 or float64 numbers, not int64"):
            cache.attend(np.ones((1, 2, 1, 4), np.int64), ["a"])

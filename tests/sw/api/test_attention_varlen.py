"""Packed sequences: the bits of each sequence alone, in one call."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.errors import NonFiniteError

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
QUERIES, KEYS = [3, 0, 17, 5, 1, 40], [4, 2, 7, 0, 33, 40]


def packed(lengths: tuple[list[int], list[int]], heads: tuple[int, int] = (4, 2), e: int = 8, f: int = 8) -> list[np.ndarray]:
    """Queries, keys, values, and first rows of queries and keys; some rows more than the sequences have."""
    rows = [sum(each) for each in lengths]
    shapes = (rows[0] + 2, heads[0], e), (rows[1] + 1, heads[1], e), (rows[1] + 1, heads[1], f)
    arrays = [np.random.default_rng((seed, e)).standard_normal(shape, np.float32) for seed, shape in enumerate(shapes)]
    return [*(array.astype(BFLOAT16) for array in arrays), *(np.cumsum([0, *each]) for each in lengths)]


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def check(device: fusemax.Device, arrays: list[np.ndarray], **options: Any) -> None:
    """Compare output and log-sum-exp with those of every sequence alone."""
    q, k, v, first_q, first_k = arrays
    out, lse = fusemax.attention_varlen(*arrays, device=device, return_lse=True, **options)
    assert out.shape == (*q.shape[:2], v.shape[2]) and lse.shape == (q.shape[1], len(q))
    temperature = options.pop("temperature", None)
    for number in range(len(first_q) - 1):
        own, keys = (slice(*edges[number : number + 2]) for edges in (first_q, first_k))
        alone = [x.swapaxes(0, 1) for x in (q[own], k[keys], v[keys])]
        offset = alone[1].shape[1] - alone[0].shape[1]
        more = options if temperature is None else options | {"temperature": temperature[:, own]}
        expected, expected_lse = fusemax.attention(*alone, device=device, query_offset=offset, return_lse=True, **more)
        np.testing.assert_array_equal(bits(out[own].swapaxes(0, 1)), bits(expected))
        np.testing.assert_array_equal(bits(lse[:, own]), bits(expected_lse))
    # Rows of no sequence.
    none = -np.inf if "sink" not in options else np.float32(options["sink"])[:, None]
    assert not out[first_q[-1] :].any() and (lse[:, first_q[-1] :] == none).all()


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", "tiny") as opened:
        yield opened


@pytest.mark.parametrize("dims", [(8, 8), (6, 5)], ids=["as they lie", "packed"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True, "out_dtype": "float32"},
        {"window": (3, 2), "scale": [0.1, -0.2, 0.3, 0.0]},
        {"causal": True, "window": (5, 0), "sink": [1.0, -np.inf, 0.0, 2.0]},
        {"alibi_slopes": [0.5, 0.25, 0.3, 0.0], "causal": True},
        {"temperature": np.random.default_rng(5).uniform(0.5, 2, (4, sum(QUERIES) + 2))},
    ],
    ids=lambda options: "_".join(options) or "plain",
)
def test_bits_of_each_sequence_alone(device: fusemax.Device, options: dict, dims: tuple[int, int]) -> None:
    check(device, packed((QUERIES, KEYS), (4, 2), *dims), **options)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_random_lengths(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 7))
    lengths = tuple(data.draw(st.lists(st.integers(0, 24), min_size=count, max_size=count)) for _ in range(2))
    heads = data.draw(st.sampled_from([(1, 1), (4, 2), (6, 1)]))
    options: dict[str, Any] = {
        "causal": data.draw(st.booleans()),
        "out_dtype": data.draw(st.sampled_from(["float32", "bfloat16"])),
    }
    if data.draw(st.booleans()):
        options["window"] = data.draw(st.tuples(st.integers(-1, 6), st.integers(-1, 6)))
    config = data.draw(st.sampled_from(["tiny", "small"]))
    with fusemax.open("model", config) as device:
        check(device, packed(lengths, heads, data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))), **options)


def test_arrays_go_to_the_device_once(device: fusemax.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of whole bus words stay as they lie, also where q, k and v are parts of one array; there is no copy per sequence."""
    rows = np.random.default_rng(1).standard_normal((30, 3, 2, 8), np.float32).astype(BFLOAT16)
    arrays = device.driver._arrays
    copied: list[int] = []

    def put_block(block, *rest, put=arrays.put_block):
        copied.append(block.size)
        return put(block, *rest)

    monkeypatch.setattr(arrays, "put_block", put_block)
    monkeypatch.setattr(arrays, "put_rows", None)
    first = [0, 9, 20, 30]
    out = fusemax.attention_varlen(*rows.swapaxes(0, 1), first, first, device=device, causal=True)
    assert copied == [rows.nbytes]
    assert out.flags.c_contiguous
    assert device.counters.jobs >= 3


def test_a_sequence_is_a_job(device: fusemax.Device) -> None:
    """Packed sequences take at most 40 cycles more than as many batch entries in one job, which have no gaps: a descriptor."""
    taken = {}
    for count in (1, 8):
        rows = np.ones((32 * count, 1, 8), BFLOAT16)
        first = np.arange(0, 32 * count + 1, 32)
        fusemax.attention_varlen(rows, rows, rows, first, first, device=device)
        assert device.counters.jobs == count
        packed_cycles = device.counters.cycles
        batch = rows.reshape(count, 1, 32, 8)
        fusemax.attention(batch, batch, batch, device=device)
        taken[count] = packed_cycles - device.counters.cycles
    assert taken[1] == 0
    assert taken[8] <= 40


def test_no_rows(device: fusemax.Device) -> None:
    empty = np.zeros((0, 2, 4), np.float32)
    assert fusemax.attention_varlen(empty, empty, empty, [0], [0], device=device).shape == (0, 2, 4)
    some = np.ones((3, 2, 4), np.float32)
    out, lse = fusemax.attention_varlen(some, empty, empty, [0, 1, 3], [0, 0, 0], device=device, return_lse=True)
    assert not out.any() and (lse == -np.inf).all()
    assert not fusemax.attention_varlen(some, some, some, [0, 0, 0], [0, 1, 3], device=device).any()


def test_a_call_without_room_is_cut_into_heads() -> None:
    arrays = packed(([40, 30], [40, 30]), (8, 4), 16, 16)
    with fusemax.open("model", "tiny", memory_bytes=1 << 15) as device:
        check(device, arrays, causal=True)


def test_progress(device: fusemax.Device) -> None:
    seen = []
    arrays = packed((QUERIES, KEYS))
    fusemax.attention_varlen(*arrays, device=device, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0


def test_without_a_device() -> None:
    arrays = packed((QUERIES, KEYS))
    with fusemax.open("model", "small") as opened:
        np.testing.assert_array_equal(
            bits(fusemax.attention_varlen(*arrays)), bits(fusemax.attention_varlen(*arrays, 40, 40, device=opened))
        )


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_only_rows_of_sequences_must_be_finite(device: fusemax.Device, name: str) -> None:
    given = dict(zip(("q", "k", "v", "cu_seqlens_q", "cu_seqlens_k"), packed((QUERIES, KEYS)), strict=True))
    given[name][-1] = np.nan
    fusemax.attention_varlen(**given, device=device)
    # Sequence 3 has queries, but no keys; sequence 1 has keys, but no queries.
    given[name][20 if name == "q" else 4] = np.inf
    fusemax.attention_varlen(**given, device=device)
    given[name][0] = np.inf
    with pytest.raises(NonFiniteError, match=f"{name} must be finite"):
        fusemax.attention_varlen(**given, device=device)


ONE = np.ones((4, 1, 8), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": ONE[0]}, ValueError, r"q must be \(rows, heads, head dim\), not of shape \(1, 8\)"),
        ({"v": ONE[:3]}, ValueError, "the length of v must be that of k, 4, not 3"),
        ({"cu_seqlens_q": [1, 4]}, ValueError, r"cu_seqlens_q must begin with 0, ascend, and end with at most 4, .* \[1, 4\]"),
        ({"cu_seqlens_k": [0, 5]}, ValueError, r"cu_seqlens_k must begin with 0, ascend, and end with at most 4, .* \[0, 5\]"),
        ({"cu_seqlens_k": [0, 3, 2]}, ValueError, "cu_seqlens_k must begin with 0, ascend"),
        ({"cu_seqlens_k": [0, 3, 4]}, ValueError, "must be of as many sequences, not of 1 and 2"),
        ({"cu_seqlens_q": [0.0, 4.0]}, TypeError, "cu_seqlens_q must be integers"),
        ({"cu_seqlens_q": []}, TypeError, "cu_seqlens_q must be integers"),
        ({"cu_seqlens_q": 4}, ValueError, r"cu_seqlens_q must be of shape \(sequences \+ 1,\), not \(\)"),
        ({"window": (1,)}, TypeError, "window must be a pair"),
        ({"key_lengths": [4]}, TypeError, r"attention_varlen\(\) got an unexpected keyword argument 'key_lengths'"),
        ({"softmax_scale": 1.0}, TypeError, "softmax_scale is called scale here"),
    ],
)
def test_wrong_arguments(device: fusemax.Device, change: dict, error: type[Exception], message: str) -> None:
    given = {"q": ONE, "k": ONE, "v": ONE, "cu_seqlens_q": [0, 4], "cu_seqlens_k": [0, 4]} | change
    with pytest.raises(error, match=message):
        fusemax.attention_varlen(**given, device=device)

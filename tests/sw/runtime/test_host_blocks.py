"""Arrays that are used as they lie."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.planning.descriptors import describe
from fusemax.runtime.host_blocks import find_blocks
from fusemax.spec import CONFIGS

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
TINY = CONFIGS["tiny"]


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(BFLOAT16)


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", config="tiny", memory_bytes=1 << 21) as opened:
        yield opened


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int]]:
    """Descriptors of the calls."""
    seen: list[dict[str, int]] = []

    def spy(*args, **options):
        found = describe(*args, **options)
        seen.extend(found)
        return found

    monkeypatch.setattr("fusemax.runtime.call.describe", spy)
    return seen


def test_lengths_before_heads(device: fusemax.Device, jobs: list) -> None:
    """(batch, length, heads, dim) tensors: strides are theirs, and so is the order of the output."""
    q, k, v = (numbers(seed, 2, length, heads, 16) for seed, (length, heads) in enumerate(((30, 6), (21, 2), (21, 2))))
    turned = [array.swapaxes(1, 2) for array in (q, k, v)]
    out = fusemax.attention(*turned, device=device, causal=True)
    job = jobs[0]
    assert (job.q_row_stride, job.q_share_stride, job.q_head_stride, job.q_batch_stride) == (192, 32, 96, 5760)
    assert (job.k_row_stride, job.k_head_stride, job.k_batch_stride) == (64, 32, 64 * 21)
    assert (job.o_row_stride, job.o_share_stride) == (192, 32)
    assert out.swapaxes(1, 2).flags.c_contiguous
    packed = [np.ascontiguousarray(array) for array in turned]
    expected = fusemax.attention(*packed, device=device, causal=True)
    assert expected.flags.c_contiguous
    np.testing.assert_array_equal(out, expected)


def test_a_tensor_of_queries_keys_and_values_is_uploaded_once(device: fusemax.Device, jobs: list) -> None:
    qkv = numbers(1, 2, 19, 3, 4, 16)
    q, k, v = (qkv[:, :, number].swapaxes(1, 2) for number in range(3))
    out = fusemax.attention(q, k, v, device=device, out_dtype="float32")
    (job,) = jobs
    assert (job.k_address - job.q_address, job.v_address - job.q_address) == (128, 256)
    assert job.q_row_stride == job.k_row_stride == job.v_row_stride == 384
    memory = device.transport.memory[job.q_address :][: qkv.nbytes]
    assert memory.tobytes() == qkv.tobytes()
    np.testing.assert_array_equal(out, fusemax.attention(*(x.copy() for x in (q, k, v)), device=device, out_dtype="float32"))


def test_keys_that_all_batch_entries_share_are_uploaded_once(device: fusemax.Device, jobs: list) -> None:
    q, k, v = numbers(0, 3, 2, 9, 16), numbers(1, 1, 2, 12, 16), numbers(2, 2, 12, 16)
    out = fusemax.attention(q, k, v, device=device)
    (job,) = jobs
    assert (job.batch, job.k_batch_stride, job.v_batch_stride) == (3, 0, 0)
    assert job.o_address - job.v_address < 2 * v.nbytes
    np.testing.assert_array_equal(out[2], fusemax.attention(q[2], k[0], v, device=device))


def test_no_copy_on_the_host(device: fusemax.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block that is uploaded is the array's own memory."""
    q = numbers(1, 1, 9, 2, 16)
    seen = []

    def spy(config, arrays):
        seen.extend(found := find_blocks(config, arrays))
        return found

    monkeypatch.setattr("fusemax.runtime.steps.find_blocks", spy)
    turned = q.swapaxes(1, 2)
    fusemax.attention(turned, turned, turned, device=device)
    (block,) = seen
    assert sorted(block.places) == ["k", "q", "v"]
    assert block.size == q.nbytes
    assert np.shares_memory(block.data, q)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda x: x[..., :10],  # rows of 20 bytes
        lambda x: x[..., ::2],
        lambda x: x[:, :, ::-1],
        lambda x: np.broadcast_to(x[:, :1], x.shape),
        lambda x: np.asfortranarray(x),
        lambda x: x[:, :, ::4],  # most of the block would be for nothing
        lambda x: x.astype(np.float32),
    ],
)
def test_other_arrays_are_packed(device: fusemax.Device, jobs: list, spoil) -> None:
    array = spoil(numbers(1, 2, 3, 24, 16))
    out = fusemax.attention(array, array, array, device=device)
    row = -(-2 * array.shape[-1] // 8) * 8
    assert jobs[0].q_row_stride == row
    assert jobs[0].k_address != jobs[0].q_address
    np.testing.assert_array_equal(out, fusemax.attention(*[np.ascontiguousarray(array)] * 3, device=device))


def test_rows_with_a_factor_are_packed(device: fusemax.Device, jobs: list) -> None:
    q = numbers(1, 1, 9, 2, 16).swapaxes(1, 2)
    out = fusemax.attention(q, q, q, [0.25, 0.5], device=device)
    assert jobs[0].q_row_stride == 8 + 32
    assert jobs[0].k_row_stride == 64
    np.testing.assert_array_equal(out[:, 1], fusemax.attention(q, q, q, 0.5, device=device)[:, 1])


def test_blocks_keep_the_bus_words_of_each_array() -> None:
    """Arrays in one block, of which one begins within a bus word: all of them are packed."""
    flat = numbers(1, 2048).view(np.uint16)
    q = flat[: 4 * 64].reshape(1, 1, 4, 64)
    k = flat[2 : 2 + 4 * 64].reshape(1, 1, 4, 64)
    assert find_blocks(TINY, {"q": q, "k": k}) == []
    (block,) = find_blocks(TINY, {"q": q, "k": flat[4 : 4 + 4 * 64].reshape(1, 1, 4, 64)})
    assert (block.places["q"].offset, block.places["k"].offset) == (0, 8)
    assert block.places["q"].strides == (0, 0, 128)

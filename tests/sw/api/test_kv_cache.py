"""KVCache: pages, growth, and attention as over plain arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusemax
from fusemax import KVCache
from fusemax.errors import DeviceMemoryError, NonFiniteError

HEADS, E, F = 2, 12, 8


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.fixture
def device():
    with fusemax.open("model", config="tiny", memory_bytes=1 << 20) as opened:
        yield opened


def cache_of(device: fusemax.Device, **options: int) -> KVCache:
    return KVCache(device, **{"heads": HEADS, "e": E, "f": F, "page_size": 4, "pages": 40} | options)


class Texts:
    """Sequences of a cache, and their keys and values beside it."""

    def __init__(self, cache: KVCache) -> None:
        self.cache = cache
        self.arrays: dict[object, tuple[np.ndarray, np.ndarray]] = {}

    def append(self, name: object, count: int, seed: int) -> None:
        if name not in self.arrays:
            self.cache.allocate(name)
            self.arrays[name] = np.zeros((HEADS, 0, E), np.float32), np.zeros((HEADS, 0, F), np.float32)
        more = numbers(2 * seed, HEADS, count, E), numbers(2 * seed + 1, HEADS, count, F)
        self.cache.append(name, *more)
        self.arrays[name] = tuple(np.concatenate(pair, axis=1) for pair in zip(self.arrays[name], more, strict=True))

    def check(self, names: list[object], queries: int, seed: int, **options) -> None:
        """Bits are those of plain arrays."""
        q = numbers(seed, len(names), 3 * HEADS, queries, E)
        out = self.cache.attend(q, names, **options)
        for entry, name in enumerate(names):
            k, v = self.arrays[name]
            if k.shape[1] == 0:
                assert not out[entry].any()
                continue
            offset = {"query_offset": k.shape[1] - queries} | options
            expected = fusemax.attention(q[entry], k, v, device=self.cache.device, **offset)
            np.testing.assert_array_equal(out[entry].view(np.uint16), expected.view(np.uint16))


def scatter(cache: KVCache) -> None:
    """Pages are taken from anywhere, so that each is a run of its own."""
    order = np.random.default_rng(3).permutation(cache.pages)
    cache._tables._next_page = lambda table: int(next(page for page in order if cache._tables._free[page]))  # type: ignore[method-assign]


@pytest.mark.parametrize("scattered", [False, True])
@pytest.mark.parametrize("page_size", [4, 12, 64])
def test_decode_and_prefill(device: fusemax.Device, page_size: int, scattered: bool) -> None:
    """Pages of a multiple of the machine's rows: the same bits as without pages."""
    with cache_of(device, page_size=page_size) as cache:
        if scattered:
            scatter(cache)
        texts = Texts(cache)
        for name, count in (("a", 9), ("b", 1), ("c", 14)):
            texts.append(name, count, seed=count)
        texts.check(["a", "b", "c"], 1, 50)
        for step in range(3):
            for name in ("a", "c"):
                texts.append(name, 5, seed=100 + step)
        texts.check(["c", "a"], 5, 51, causal=True)
        texts.check(["c", "a", "b", "a"], 2, 52, window=(3, 0), prefix=5)
        texts.check(["a"], 3, 53, causal=True, sink=[0.5] * 6, scale=[0.2] * 6)
        texts.check(["a", "b"], 1, 54, temperature=0.5, query_offset=7, causal=True)


def test_a_sequence_without_keys(device: fusemax.Device) -> None:
    with cache_of(device) as cache:
        texts = Texts(cache)
        texts.append("a", 3, 1)
        cache.allocate("empty")
        texts.arrays["empty"] = np.zeros((HEADS, 0, E)), np.zeros((HEADS, 0, F))
        texts.check(["empty", "a"], 1, 2)
        out, lse = cache.attend(numbers(1, 1, 2, 1, E), ["empty"], return_lse=True)
        assert not out.any() and (lse == -np.inf).all()


def test_other_page_sizes_are_as_exact(device: fusemax.Device) -> None:
    with cache_of(device, page_size=7) as cache:
        scatter(cache)
        texts = Texts(cache)
        texts.append("a", 60, 1)
        q = numbers(5, 1, 4, 3, E)
        out, state = cache.attend(q, ["a"], causal=True, out_dtype="float32", return_state=True)
        k, v = texts.arrays["a"]
        expected = fusemax.attention(q[0], k, v, device=device, causal=True, query_offset=57, out_dtype="float32")
        np.testing.assert_allclose(out[0], expected, atol=1e-4)
        assert isinstance(state, fusemax.State)


def test_pages_that_lie_together_are_one_job(device: fusemax.Device) -> None:
    with cache_of(device) as cache:
        texts = Texts(cache)
        for step in range(5):
            for name in range(3):
                texts.append(name, 3, seed=10 * step + name)
        assert [np.diff(cache.table(name)).tolist() for name in range(3)] == [[1, 1, 1]] * 3
        cache.attend(numbers(1, 3, 4, 1, E), [0, 1, 2])
        assert device.counters.jobs == 3
        assert device.counters.utilisation > 0
        scatter(cache)
        texts.append(0, 8, seed=99)
        cache.attend(numbers(1, 1, 4, 1, E), [0])
        # A chain per key head.
        assert device.counters.jobs == HEADS


def test_pages_run_out_and_come_back(device: fusemax.Device) -> None:
    with cache_of(device, pages=5) as cache:
        texts = Texts(cache)
        texts.append("a", 10, 1)
        texts.append("b", 5, 2)
        assert cache.free_pages == 0
        with pytest.raises(DeviceMemoryError, match="the keys need 1 more pages of 4, but 0 of 5 pages are free"):
            texts.append("a", 3, 3)
        assert cache.length("a") == 10
        texts.append("a", 2, 4)
        texts.check(["a", "b"], 1, 9)
        cache.free("b")
        assert cache.free_pages == 2 and cache.sequences == ["a"]
        texts.append("c", 6, 5)
        texts.check(["c", "a"], 1, 10)


def test_memory_is_reserved_and_given_back(device: fusemax.Device) -> None:
    big = {"heads": 4, "e": 64, "f": 64, "page_size": 64}
    with KVCache(device, **big, pages=10), pytest.raises(DeviceMemoryError, match="the pages of the cache need"):
        KVCache(device, **big, pages=10)
    with KVCache(device, **big, pages=6) as first, KVCache(device, **big, pages=3) as second:
        first.close()
        with KVCache(device, **big, pages=5):
            second.allocate(0)
            second.append(0, numbers(1, 4, 5, 64), numbers(2, 4, 5, 64))
            large = numbers(3, 1, 2500, 64)
            with pytest.raises(DeviceMemoryError, match=r"the values need 320000 bytes .* [0-9]+ of them reserved"):
                fusemax.attention(large[:, :4], large, large.copy(), device=device)
            assert second.attend(numbers(4, 1, 4, 1, 64), [0]).any()


def test_a_chain_is_not_longer_than_the_ring() -> None:
    with fusemax.open("model", config="tiny", memory_bytes=1 << 18) as device, cache_of(device) as cache:
        scatter(cache)
        texts = Texts(cache)
        texts.append("a", 64, 1)
        texts.check(["a"], 1, 2)
        texts.append("a", 4, 3)
        with pytest.raises(DeviceMemoryError, match="the keys of a sequence must be in at most 16 runs of pages"):
            cache.attend(numbers(1, 1, 2, 1, E), ["a"])
        # The last keys alone are fewer.
        texts.check(["a"], 1, 4, window=(20, 0))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6), st.booleans()), min_size=1, max_size=12))
def test_any_order_of_growing_and_freeing(steps) -> None:
    with fusemax.open("model", config="tiny", memory_bytes=1 << 20) as device, cache_of(device, pages=20) as cache:
        texts = Texts(cache)
        for number, (name, count, free) in enumerate(steps):
            if free and name in texts.arrays:
                cache.free(name)
                del texts.arrays[name]
            elif count:
                texts.append(name, count, number)
            pages = [page for other in cache.sequences for page in cache.table(other)]
            assert len(pages) == len(set(pages)) == cache.pages - cache.free_pages
        if texts.arrays:
            texts.check(list(texts.arrays), 2, 77, causal=True)


def test_numbers_and_names_of_numpy(device: fusemax.Device) -> None:
    with cache_of(device, pages=np.int64(7), page_size=np.int32(4)) as cache:
        assert (type(cache.pages), cache.pages, cache.page_size) == (int, 7, 4)
        texts = Texts(cache)
        texts.append(5, 3, 1)
        q = numbers(1, 1, 2, 1, E)
        np.testing.assert_array_equal(cache.attend(q, np.array([5])), cache.attend(q, [5]))


def test_wrong_arguments(device: fusemax.Device) -> None:
    for change, error, message in (
        ({"heads": 0}, ValueError, "heads must be at least 1, not 0"),
        ({"pages": 2.5}, TypeError, "pages must be an integer, not 2.5"),
        ({"e": 65}, ValueError, "the head dim of q and k must be at most 64 on 'tiny', not 65"),
    ):
        with pytest.raises(error, match=message):
            cache_of(device, **change)
    with pytest.raises(TypeError, match="device must be a Device, not None"):
        KVCache(None, heads=1, e=4, pages=1)  # type: ignore[arg-type]
    with cache_of(device) as cache:
        cache.allocate("a")
        with pytest.raises(ValueError, match="sequence must be a new one, but 'a' is there"):
            cache.allocate("a")
        with pytest.raises(KeyError, match="there is no sequence 'b'"):
            cache.append("b", numbers(1, HEADS, 1, E), numbers(2, HEADS, 1, F))
        with pytest.raises(ValueError, match=r"k must be \(2, keys, 12\), not \(2, 1, 8\)"):
            cache.append("a", numbers(1, HEADS, 1, F), numbers(2, HEADS, 1, F))
        with pytest.raises(ValueError, match="the length of v must be that of k, 1, not 2"):
            cache.append("a", numbers(1, HEADS, 1, E), numbers(2, HEADS, 2, F))
        with pytest.raises(NonFiniteError, match="k must be finite in bfloat16"):
            cache.append("a", np.full((HEADS, 1, E), np.nan, np.float32), numbers(2, HEADS, 1, F))
        assert cache.length("a") == 0
        for sequences in (None, 3, "a"):
            with pytest.raises(TypeError, match=f"sequences must be a list of names, not {sequences!r}"):
                cache.attend(numbers(1, 1, 2, 1, E), sequences)
        for q in (numbers(1, 1, 3, 1, E), numbers(1, 2, 2, 1, E), numbers(1, 1, 2, 1, E + 1)):
            with pytest.raises(ValueError, match=r"q must be \(1 sequences, a multiple of 2 heads, queries, 12\)"):
                cache.attend(q, ["a"])
    with pytest.raises(ValueError, match="the cache must be open"):
        cache.allocate("b")
    cache.close()


def test_values_in_keys(device: fusemax.Device) -> None:
    """The bits are those of values of their own, half as many bytes are kept, and ALiBi's columns come behind the keys."""

    def room() -> int:
        return sum(stop - start for start, stop in device.driver.memory.gaps())

    free = room()
    with cache_of(device, values_in_keys=True, page_size=4, pages=20) as cache:
        taken = free - room()
        scatter(cache)
        keys = numbers(1, HEADS, 21, E)
        cache.allocate("a")
        cache.append("a", keys[:, :9])
        cache.append("a", keys[:, 9:])
        cache.fork("a", "b")
        cache.append("b", keys[:, :3])
        q = numbers(2, 2, 2 * HEADS, 3, E)
        for options in ({}, {"alibi_slopes": [0.5, 0.25, 0.125, 0.0]}):
            out = cache.attend(q, ["a", "b"], causal=True, **options)
            for entry, k in enumerate((keys, np.concatenate([keys, keys[:, :3]], axis=1))):
                v = np.ascontiguousarray(k[..., :F])
                expected = fusemax.attention(q[entry], k, v, device=device, causal=True, query_offset=k.shape[1] - 3, **options)
                np.testing.assert_array_equal(out[entry].view(np.uint16), expected.view(np.uint16))
        with pytest.raises(TypeError, match="v must not be given, since the values are in the keys"):
            cache.append("a", keys, keys[..., :F])
    with cache_of(device, page_size=4, pages=20) as cache:
        assert 0 < taken < 0.7 * (free - room())
        cache.allocate("a")
        with pytest.raises(TypeError, match="v must be given"):
            cache.append("a", numbers(1, HEADS, 3, E))
    with pytest.raises(ValueError, match="f must be at most e, 12, with values_in_keys, not 13"):
        cache_of(device, values_in_keys=True, f=13)

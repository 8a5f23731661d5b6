"""Calls that are cut to what device memory holds give the bits of the whole call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fusemax
from fusemax import KVCache
from fusemax.errors import DeviceMemoryError
from fusemax.planning.masks import Mask
from fusemax.planning.memory_map import Shape
from fusemax.planning.splitting import Part, split

SHAPE = Shape(batch=3, heads=4, share=5, queries=2, keys=2, e=8)


@pytest.mark.parametrize(
    ("most", "parts"),
    [
        (60, [Part((0, 3), (0, 4), (0, 5))]),
        (59, [Part((0, 2), (0, 4), (0, 5)), Part((2, 3), (0, 4), (0, 5))]),
        (20, [Part((b, b + 1), (0, 4), (0, 5)) for b in range(3)]),
        (15, [Part((b, b + 1), heads, (0, 5)) for b in range(3) for heads in ((0, 3), (3, 4))]),
        (4, [Part((b, b + 1), (h, h + 1), share) for b in range(3) for h in range(4) for share in ((0, 4), (4, 5))]),
        (0, [Part((b, b + 1), (h, h + 1), (s, s + 1)) for b in range(3) for h in range(4) for s in range(5)]),
    ],
)
def test_as_few_parts_as_fit(most: int, parts: list[Part]) -> None:
    assert split(SHAPE, lambda shape: shape.batch * shape.heads * shape.share <= most) == parts
    covered = np.zeros((3, 20), int)
    for part in parts:
        part.rows(SHAPE, "q", covered)[...] += 1
    assert (covered == 1).all()


def test_what_belongs_to_a_part() -> None:
    part = Part((1, 3), (2, 3), (1, 4))
    assert part.shape(SHAPE) == replace(SHAPE, batch=2, heads=1, share=3)
    assert part.query_heads(SHAPE) == (11, 14)
    heads = np.arange(3 * 20).reshape(3, 20)
    assert part.rows(SHAPE, "q", heads).tolist() == [[31, 32, 33], [51, 52, 53]]
    assert part.rows(SHAPE, "k", np.arange(12).reshape(3, 4)).tolist() == [[6], [10]]
    assert part.scale(SHAPE, np.float32(2)) == 2
    mask = Mask(left=1, offsets=(5, 6, 7), prefixes=(4,), key_lengths=(1, 2, 3))
    assert part.mask(mask) == Mask(left=1, offsets=(6, 7), prefixes=(4,), key_lengths=(2, 3))
    assert part.mask(Mask()) == Mask()


def arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [np.random.default_rng((11, n)).standard_normal(shape, np.float32) for n, shape in enumerate(shapes)]


@pytest.mark.parametrize("memory_bytes", [1 << 13, 10 << 10, 14 << 10])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"out_dtype": "float32", "causal": True, "query_offset": [3, -2, 0]},
        {"window": (4, 1), "key_lengths": [19, 0, 7], "prefix": [0, 3, 2], "return_lse": True},
        {"temperature": np.linspace(0.5, 2, 3 * 4 * 17).reshape(3, 4, 17), "return_state": True},
        {"scale": [0.1, 0.2, 0.3, -0.4], "alibi_slopes": [0.5, 0.25, 0.125, 0.0625], "causal": True},
    ],
)
def test_parts_give_the_bits_of_the_whole(memory_bytes: int, options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = arrays((3, 4, 17, 16), (3, 2, 19, 16), (3, 2, 19, 8))
    progress: list[tuple[int, int]] = []
    with fusemax.open("model", "tiny", memory_bytes=memory_bytes) as small, fusemax.open("model", "tiny") as large:
        parts = []
        add = small.driver.queue.add
        monkeypatch.setattr(small.driver.queue, "add", lambda *jobs, **how: parts.append(how) or add(*jobs, **how))
        found = fusemax.attention(q, k, v, device=small, progress=lambda *seen: progress.append(seen), **options)
        expected = fusemax.attention(q, k, v, device=large, **options)
        assert len(parts) > 1
        assert small.counters.tiles == large.counters.tiles
        tiles = large.counters.tiles + large.counters.tiles_skipped
        assert {total for _, total in progress} == {tiles}
        assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (found, expected)), strict=True):
        if isinstance(one, fusemax.State):
            one, other = one.output("float32"), other.output("float32")
        np.testing.assert_array_equal(one.view(np.uint8), other.view(np.uint8))


def test_queries_of_a_cache_are_cut() -> None:
    """Each part finds the pages of its own sequence, which lie apart."""
    q, k, v = arrays((2, 6, 40, 16), (2, 3, 30, 16), (2, 3, 30, 16))
    results = []
    for memory_bytes in (24 << 10, 1 << 20):
        with (
            fusemax.open("model", "tiny", memory_bytes=memory_bytes) as device,
            KVCache(device, heads=3, e=16, page_size=4, pages=14) as cache,
        ):
            for sequence, index, keys in (("a", 0, 12), ("c", 0, 12), ("b", 1, 21), ("a", 0, 18)):
                if sequence not in cache.sequences:
                    cache.allocate(sequence)
                elif "c" in cache.sequences:
                    cache.free("c")
                rows = slice(cache.length(sequence), cache.length(sequence) + keys)
                cache.append(sequence, k[index, :, rows], v[index, :, rows])
            runs = {sequence: len(np.flatnonzero(np.diff(cache.table(sequence)) != 1)) for sequence in "ab"}
            assert runs["a"] != runs["b"], (cache.table("a"), cache.table("b"))
            results.append(cache.attend(q, ["b", "a"], causal=True))
    np.testing.assert_array_equal(results[0].view(np.uint16), results[1].view(np.uint16))


def test_a_head_that_does_not_fit_is_an_error() -> None:
    q, k, v = arrays((1, 1, 4, 64), (1, 1, 100, 64), (1, 1, 100, 64))
    with fusemax.open("model", "tiny", memory_bytes=1 << 14) as device:
        with pytest.raises(DeviceMemoryError, match=r"the keys need 12800 bytes and end at \d+, but .* has 16384 bytes"):
            fusemax.attention(np.concatenate([q] * 3), np.concatenate([k] * 3), np.concatenate([v] * 3), device=device)
        assert fusemax.attention(q, k[..., :4, :], v[..., :4, :], device=device).shape == (1, 1, 4, 64)


def test_a_time_limit_holds_for_all_parts() -> None:
    q, k, v = arrays((40, 4, 17, 16), (40, 4, 19, 16), (40, 4, 19, 8))
    with fusemax.open("model", "tiny", memory_bytes=1 << 13) as device:
        with pytest.raises(fusemax.errors.DeviceTimeoutError, match="must be done within 0"):
            fusemax.attention(q, k, v, device=device, timeout=0.01)
        one = np.ones((1, 1, 8), np.float32)
        np.testing.assert_array_equal(fusemax.attention(one, one, one, device=device), one)

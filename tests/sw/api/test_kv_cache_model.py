"""KVCache beside plain lists of keys: forks, truncation, ALiBi, ragged batches, and threads."""

from __future__ import annotations

import gc
import threading
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import fusemax
from fusemax import KVCache
from fusemax.errors import DeviceMemoryError, ReentrantCallError

HEADS, E, F, PAGE = 2, 12, 8, 4


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def cache_of(device: fusemax.Device, **options: Any) -> KVCache:
    return KVCache(device, **{"heads": HEADS, "e": E, "f": F, "page_size": PAGE, "pages": 40} | options)


@pytest.fixture
def device():
    with fusemax.open("model", config="tiny", memory_bytes=1 << 20) as opened:
        yield opened


def alone(device: fusemax.Device, keys: tuple[np.ndarray, np.ndarray], q: np.ndarray, **options: Any) -> np.ndarray:
    """Bits of attention over plain arrays."""
    k, v = keys
    if k.shape[1] == 0:
        return np.zeros((*q.shape[:2], F), np.uint16)
    return fusemax.attention(q, k, v, device=device, **{"query_offset": k.shape[1] - q.shape[1]} | options).view(np.uint16)


class Sequences(RuleBasedStateMachine):
    """Every step on a cache and on a dict of arrays."""

    def __init__(self) -> None:
        super().__init__()
        self.device = fusemax.open("model", config="tiny", memory_bytes=1 << 18)
        self.cache = cache_of(self.device, pages=12)
        self.arrays: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.next = 0

    def teardown(self) -> None:
        for name in list(self.arrays):
            self.cache.free(name)
        assert self.cache.free_pages == 12
        self.cache.close()
        self.device.close()

    def _some(self, data: Any) -> int:
        return data.draw(st.sampled_from(sorted(self.arrays)))

    @rule()
    def allocate(self) -> None:
        self.cache.allocate(self.next)
        self.arrays[self.next] = numbers(0, HEADS, 0, E), numbers(0, HEADS, 0, F)
        self.next += 1

    @precondition(lambda self: self.arrays)
    @rule(data=st.data(), count=st.integers(1, 9), seed=st.integers(0, 1000))
    def append(self, data: Any, count: int, seed: int) -> None:
        name = self._some(data)
        more = numbers(seed, HEADS, count, E), numbers(seed + 1, HEADS, count, F)
        free = self.cache.free_pages
        try:
            self.cache.append(name, *more)
        except DeviceMemoryError:
            # Pages that are missing, and one for a copy.
            length = self.arrays[name][0].shape[1]
            assert -(-(length + count) // PAGE) - -(-length // PAGE) + 1 > free
            assert self.cache.free_pages == free
            return
        self.arrays[name] = tuple(np.concatenate(pair, axis=1) for pair in zip(self.arrays[name], more, strict=True))  # type: ignore[assignment]

    @precondition(lambda self: self.arrays)
    @rule(data=st.data())
    def fork(self, data: Any) -> None:
        name, free = self._some(data), self.cache.free_pages
        self.cache.fork(name, self.next)
        assert self.cache.free_pages == free
        self.arrays[self.next] = self.arrays[name]
        self.next += 1

    @precondition(lambda self: self.arrays)
    @rule(data=st.data(), share=st.floats(0, 1))
    def truncate(self, data: Any, share: float) -> None:
        name = self._some(data)
        length = int(share * self.arrays[name][0].shape[1])
        self.cache.truncate(name, length)
        self.arrays[name] = tuple(array[:, :length] for array in self.arrays[name])  # type: ignore[assignment]

    @precondition(lambda self: len(self.arrays) > 1)
    @rule(data=st.data())
    def free(self, data: Any) -> None:
        name = self._some(data)
        self.cache.free(name)
        del self.arrays[name]

    @precondition(lambda self: self.arrays)
    @rule(data=st.data(), seed=st.integers(0, 1000), alibi=st.booleans(), causal=st.booleans())
    def attend(self, data: Any, seed: int, alibi: bool, causal: bool) -> None:
        """A ragged batch: each entry has the bits that it has alone."""
        names = data.draw(st.lists(st.sampled_from(sorted(self.arrays)), min_size=1, max_size=3))
        counts = data.draw(st.lists(st.integers(1, 5), min_size=len(names), max_size=len(names)))
        options: dict[str, Any] = {"causal": causal}
        if alibi:
            options["alibi_slopes"] = [0.5, 0.25, 0.3, 0.7]
        queries = [numbers(seed + n, 2 * HEADS, count, E) for n, count in enumerate(counts)]
        found = self.cache.attend(queries, names, **options)
        for name, q, out in zip(names, queries, found, strict=True):
            np.testing.assert_array_equal(out.view(np.uint16), alone(self.device, self.arrays[name], q, **options))

    @invariant()
    def lengths_and_pages(self) -> None:
        assert self.cache.sequences == list(self.arrays)
        used = set()
        for name, (k, _) in self.arrays.items():
            assert self.cache.length(name) == k.shape[1]
            assert len(self.cache.table(name)) == -(-k.shape[1] // PAGE)
            used |= set(self.cache.table(name))
        assert self.cache.free_pages == 12 - len(used)


TestSequences = Sequences.TestCase
TestSequences.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def grown(cache: KVCache, name: object, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    cache.allocate(name)
    keys = numbers(seed, HEADS, count, E), numbers(seed + 1, HEADS, count, F)
    cache.append(name, *keys)
    return keys


def test_ragged_options_and_results(device: fusemax.Device) -> None:
    with cache_of(device) as cache:
        keys = [grown(cache, name, count, 10 * count) for name, count in (("a", 9), ("b", 3), ("c", 17))]
        queries = [numbers(1, 4, 1, E), numbers(2, 4, 5, E), numbers(3, 4, 1, E)]
        temperatures = [0.5, np.linspace(1, 2, 5), 1.5]
        states = [None, None, fusemax.State.sink([0.1, 0.2, 0.3, 0.4], 1, F)]
        options: dict[str, Any] = {"out_dtype": "float32", "return_lse": True, "return_state": True}
        outs, lses, found = cache.attend(
            queries,
            ["a", "b", "c"],
            temperature=temperatures,
            state=states,
            prefix=[1, 0, 2],
            query_offset=[8, 2, 3],
            window=(4, 0),
            **options,
        )
        assert device.counters.jobs >= 3
        for n, (k, v) in enumerate(keys):
            out, lse, state = fusemax.attention(
                queries[n],
                k,
                v,
                device=device,
                temperature=temperatures[n],
                state=states[n],
                prefix=[1, 0, 2][n],
                query_offset=[8, 2, 3][n],
                window=(4, 0),
                **options,
            )
            np.testing.assert_array_equal(outs[n], out)
            np.testing.assert_array_equal(lses[n], lse)
            np.testing.assert_array_equal(found[n].numerator, state.numerator)


def test_a_ragged_batch_that_does_not_fit_together() -> None:
    """Its parts run one after the other."""
    with fusemax.open("model", config="tiny", memory_bytes=1 << 15) as device, cache_of(device, pages=20) as cache:
        keys = [grown(cache, n, 9 + n, n) for n in range(2)]
        queries = [numbers(1, 8, 60, E), numbers(2, 8, 59, E)]
        told: list[tuple[int, int]] = []
        found = cache.attend(queries, [0, 1], progress=lambda *seen: told.append(seen))
        assert told[-1][0] <= told[-1][1] and len({total for _, total in told}) == 1
        with fusemax.open("model", config="tiny") as other:
            for q, out, each in zip(queries, found, keys, strict=True):
                np.testing.assert_array_equal(out.view(np.uint16), alone(other, each, q))


def test_wrong_ragged_batches(device: fusemax.Device) -> None:
    q = numbers(1, 2, 1, E)
    with cache_of(device) as cache:
        for name in "ab":
            grown(cache, name, 3, 1)
        for queries, options, error, message in (
            ([q], {}, ValueError, "q must be an array for each of 2 sequences, not a list of 1"),
            ([q, q[0]], {}, ValueError, r"q\[1\] must be \(heads, queries, head dim\), not \(1, 12\)"),
            ([q, q.astype(np.float64)], {}, TypeError, r"q\[1\] must be float32 as q\[0\] is, not float64"),
            ([q, q[..., :4]], {}, ValueError, "must have as many heads and one head dim, not shapes"),
            ([q[:1], q[:1]], {}, ValueError, "a multiple of 2 heads"),
            (
                [q, q],
                {"temperature": [1.0]},
                ValueError,
                "temperature must be for all, or a list of 2, one per sequence, not of 1",
            ),
            ([q, q], {"temperature": [1.0, [1, 2]]}, ValueError, r"temperature\[1\] must broadcast to \(2, 1\)"),
            ([q, q], {"state": [None, 3]}, TypeError, "state must be of fusemax.State or None, not 3"),
        ):
            with pytest.raises(error, match=message):
                cache.attend(queries, ["a", "b"], **options)
        assert cache.free_pages == 38


def test_wrong_forks_and_truncations(device: fusemax.Device) -> None:
    with cache_of(device) as cache:
        grown(cache, "a", 5, 1)
        with pytest.raises(KeyError, match="there is no sequence 'b'"):
            cache.fork("b", "c")
        with pytest.raises(ValueError, match="sequence must be a new one, but 'a' is there"):
            cache.fork("a", "a")
        with pytest.raises(ValueError, match="length must be from 0 to 5, the keys of 'a', not 6"):
            cache.truncate("a", 6)
        with pytest.raises(TypeError, match=r"length must be an integer, not 2\.0"):
            cache.truncate("a", 2.0)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="alibi must be True or False, not 1"):
            cache_of(device, alibi=1)


def test_repr(device: fusemax.Device) -> None:
    cache = cache_of(device)
    grown(cache, "a", 5, 1)
    cache.fork("a", "b")
    shape = "2 heads, e 12, f 8"
    assert repr(cache) == f"<KVCache on {device!r}, {shape}: 2 sequences of 10 keys, 2 of 40 pages of 4 keys used>"
    cache.close()
    assert repr(cache) == f"<closed KVCache, {shape}>"


def test_too_many_pages_are_refused_at_once(device: fusemax.Device) -> None:
    for pages in (10**11, 10**30):
        with pytest.raises(
            DeviceMemoryError, match=r"the pages of the cache need [0-9]+ bytes, but the device memory has [0-9]+"
        ):
            cache_of(device, pages=pages)


def test_room_for_alibi_is_made_when_it_is_needed(device: fusemax.Device) -> None:
    options: dict[str, Any] = {"alibi_slopes": [0.3, 0.2, 0.1, 0.7], "causal": True}
    memory = device.driver.memory
    q = numbers(5, 1, 4, 3, E)
    for alibi in (False, True):
        with cache_of(device, alibi=alibi, pages=160) as cache:
            keys = grown(cache, "a", 11, 1)
            before = memory.reserved_bytes
            out = cache.attend(q, ["a"], **options)
            np.testing.assert_array_equal(out[0].view(np.uint16), alone(device, keys, q[0], **options))
            assert (memory.reserved_bytes == before) == alibi
            more = numbers(7, HEADS, 4, E), numbers(8, HEADS, 4, F)
            cache.append("a", *more)
            keys = tuple(np.concatenate(pair, axis=1) for pair in zip(keys, more, strict=True))
            for chosen in (options, {}):
                out = cache.attend(q, ["a"], **chosen)
                np.testing.assert_array_equal(out[0].view(np.uint16), alone(device, keys, q[0], **chosen))
        assert memory.reserved_bytes == 0


# -- threads and ends ----------------------------------------------------------------------------------------------------


def run_all(work: list[Any]) -> None:
    errors: list[BaseException] = []

    def guarded(function: Any) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert errors == []


@pytest.mark.parametrize("seed", range(5))
def test_threads_that_own_different_sequences(device: fusemax.Device, seed: int) -> None:
    with cache_of(device, page_size=1, pages=4 * 30) as cache:
        expected: dict[int, Any] = {}

        def grow(name: int) -> None:
            parts = [(numbers(100 * name + n, HEADS, 1, E), numbers(200 * name + n, HEADS, 1, F)) for n in range(30)]
            cache.allocate(name)
            for k, v in parts:
                cache.append(name, k, v)
            expected[name] = tuple(np.concatenate(part, axis=1) for part in zip(*parts, strict=True))

        run_all([lambda name=name: grow(name) for name in range(4)])
        pages = [page for name in range(4) for page in cache.table(name)]
        assert len(set(pages)) == len(pages) == 120
        for name, (k, v) in expected.items():
            stores, places = cache._stores, cache._tables.places(name, 0, 30)
            assert stores is not None
            np.testing.assert_array_equal(stores.k.rows[places], fusemax_bits(k))
            np.testing.assert_array_equal(stores.v.rows[places], fusemax_bits(v))


def fusemax_bits(array: np.ndarray) -> np.ndarray:
    from fusemax.runtime.argument_checks import to_bits

    return to_bits("x", array).swapaxes(0, 1)


def test_a_call_sees_sequences_as_they_were(device: fusemax.Device) -> None:
    """Freed, cut, written again, and the cache closed, while it runs."""
    cache = cache_of(device, pages=8)
    keys = grown(cache, "a", 10, 1)
    q = numbers(3, 1, 4, 6, E)
    expected = alone(device, keys, q[0])
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        if not seen:
            seen.append(cache.free_pages)
            cache.truncate("a", 1)
            cache.append("a", numbers(5, HEADS, 6, E), numbers(6, HEADS, 6, F))
            cache.free("a")
            grown(cache, "b", 8, 7)
            seen.append(cache.free_pages)
            with pytest.raises(DeviceMemoryError):
                grown(cache, "c", 20, 8)
            with pytest.raises(ReentrantCallError):
                cache.attend(q, ["b"])

    call = cache.attend
    np.testing.assert_array_equal(call(q, ["a"], progress=progress)[0].view(np.uint16), expected)
    assert seen == [5, 3] and cache.free_pages == 6
    reserved = device.driver.memory.reserved_bytes
    cache.attend(q, ["b"], progress=lambda *_: cache.close())
    assert device.driver.memory.reserved_bytes < reserved


def test_a_cache_that_is_dropped(device: fusemax.Device) -> None:
    for cycle in (False, True):
        cache: Any = cache_of(device)
        if cycle:
            cache.itself = cache
        with pytest.warns(ResourceWarning, match="unclosed cache of 40 pages"):
            del cache
            gc.collect()
    before = device.driver.memory.reserved_bytes
    x = numbers(1, 2, 4)
    device.submit(x, x, x).result(30)
    assert before > 4096 >= device.driver.memory.reserved_bytes
    cache = cache_of(device)
    device.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del cache
        gc.collect()


def test_a_cache_that_is_closed_or_moved_as_a_call_begins(device: fusemax.Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another thread, between the moment when the call has seen the sequences and the one when it asks where they lie."""
    q = numbers(3, 1, 4, 2, E)
    for event in ("close", "move"):
        cache = cache_of(device, pages=160)
        keys = grown(cache, "a", 10, 1)
        expected = alone(device, keys, q[0])
        placed = cache._placed

        def interrupted(*arguments: Any, cache: KVCache = cache, placed: Any = placed, event: str = event) -> Any:
            monkeypatch.undo()
            if event == "close":
                cache.close()
            else:
                cache.attend(q, ["a"], alibi_slopes=[0.5] * 4)
            return placed(*arguments)

        monkeypatch.setattr(cache, "_placed", interrupted)
        np.testing.assert_array_equal(cache.attend(q, ["a"])[0].view(np.uint16), expected)
        cache.close()
    assert device.driver.memory.reserved_bytes == 0


def test_a_scale_of_zero_is_the_mean(device: fusemax.Device) -> None:
    with cache_of(device) as cache:
        keys = grown(cache, "a", 11, 1)
        q = numbers(3, 1, 4, 2, E)
        for scale in (0, [0.0, 0.3, 0.0, 0.2]):
            found = cache.attend(q, ["a"], scale)[0].view(np.uint16)
            np.testing.assert_array_equal(found, alone(device, keys, q[0], scale=scale))

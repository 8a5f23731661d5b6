"""Accounts of device memory: nothing is given twice or lost, and what is free can be used."""

from __future__ import annotations

import gc
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import fusemax
from fusemax.errors import AbortFaultError, DeviceMemoryError
from fusemax.runtime.device_memory import DeviceMemory
from fusemax.spec import PAGE_BYTES


def numbers(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


class Allocator(RuleBasedStateMachine):
    """Reserving and releasing, beside a list of pages with an owner each."""

    PAGES, FREE = 24, 5000

    def __init__(self) -> None:
        super().__init__()
        self.memory = DeviceMemory(np.zeros(self.PAGES * PAGE_BYTES + 100, np.uint8), self.FREE)
        #: Pages below ``free`` are taken by programs.
        self.owner: list[object] = [None] * self.PAGES
        self.owner[:2] = ["programs"] * 2
        self.areas: list[int] = []

    @rule(size=st.integers(1, 9 * PAGE_BYTES))
    def reserve(self, size: int) -> None:
        pages = -(-size // PAGE_BYTES)
        fits = [n for n in range(self.PAGES - pages + 1) if not any(self.owner[n : n + pages])]
        if not fits:
            with pytest.raises(DeviceMemoryError):
                self.memory.reserve("pages", size)
            return
        address = self.memory.reserve("pages", size)
        first, rest = divmod(address, PAGE_BYTES)
        # The highest gap that is large enough, at its end.
        assert (first, rest) == (fits[-1], 0)
        self.owner[first : first + pages] = [address] * pages
        self.areas.append(address)

    @precondition(lambda self: self.areas)
    @rule(data=st.data())
    def release(self, data: Any) -> None:
        address = self.areas.pop(data.draw(st.integers(0, len(self.areas) - 1)))
        self.memory.release(address)
        self.owner = [None if owner == address else owner for owner in self.owner]

    @precondition(lambda self: "call" not in self.owner)
    @rule(data=st.data())
    def call(self, data: Any) -> None:
        """A call takes part of a gap."""
        gaps = self.memory.gaps()
        if gaps:
            start, end = data.draw(st.sampled_from(gaps))
            stop = data.draw(st.integers(start + 1, end))
            self.memory.call = start, stop
            for page in range(start // PAGE_BYTES, min(-(-stop // PAGE_BYTES), self.PAGES)):
                if self.owner[page] is None:
                    self.owner[page] = "call"

    @precondition(lambda self: "call" in self.owner)
    @rule()
    def end_call(self) -> None:
        self.memory.call = None
        self.owner = [None if owner == "call" else owner for owner in self.owner]

    @invariant()
    def gaps_are_what_nobody_has(self) -> None:
        free = {page for page in range(self.PAGES) if self.owner[page] is None}
        found = {
            page
            for start, end in self.memory.gaps()
            for page in range(-(-start // PAGE_BYTES), min(end // PAGE_BYTES, self.PAGES))
        }
        assert found == free
        assert self.memory.reserved_bytes == PAGE_BYTES * sum(isinstance(owner, int) for owner in self.owner)


class Account(RuleBasedStateMachine):
    """A device whose memory is nearly too small, used in every way; at the end all of it is free again."""

    def __init__(self) -> None:
        super().__init__()
        self.device = fusemax.open("model", config="tiny", memory_bytes=1 << 16)
        self.submissions: list[Any] = []
        self.caches: list[fusemax.KVCache] = []
        # The programs are there for good.
        x = numbers(1, 1, 2, 8)
        self.device.submit(x, x, x).result()
        self.device.submit(x[..., :7], x[..., :7], x).result()
        self.empty = self.device.driver.memory.gaps()

    def teardown(self) -> None:
        del self.submissions[:]
        for cache in self.caches:
            cache.close()
        gc.collect()
        x = numbers(1, 1, 2, 8)
        self.device.submit(x, x, x).result()
        self.device.submit(x, x, x).result()
        assert self.device.driver.memory.gaps() == self.empty
        self.device.close()

    @rule(keys=st.integers(1, 1500), seed=st.integers(0, 99))
    def attention(self, keys: int, seed: int) -> None:
        x = numbers(seed, 1, keys, 8)
        try:
            out = fusemax.attention(x[:, :3], x, x, device=self.device)
        except DeviceMemoryError:
            need = 3 * 16 * keys + (1 << 14)
            assert max((end - start for start, end in self.device.driver.memory.gaps()), default=0) < need
            return
        assert np.isfinite(out.astype(np.float32)).all()
        assert self.device.driver.memory.call is None

    @rule(keys=st.integers(1, 600), seed=st.integers(0, 99), keep=st.booleans())
    def submit(self, keys: int, seed: int, keep: bool) -> None:
        x = numbers(seed, 1, keys, 8)
        try:
            submission = self.device.submit(x[:, :3], x, x)
        except DeviceMemoryError:
            return
        if keep:
            self.submissions.append(submission)

    @precondition(lambda self: self.submissions)
    @rule(data=st.data(), wait=st.booleans())
    def take(self, data: Any, wait: bool) -> None:
        submission = self.submissions.pop(data.draw(st.integers(0, len(self.submissions) - 1)))
        if wait:
            submission.result(30)

    @rule(pages=st.integers(1, 15))
    def open_cache(self, pages: int) -> None:
        try:
            self.caches.append(fusemax.KVCache(self.device, heads=1, e=8, page_size=32, pages=pages))
        except DeviceMemoryError:
            return

    @precondition(lambda self: self.caches)
    @rule(data=st.data())
    def close_cache(self, data: Any) -> None:
        self.caches.pop(data.draw(st.integers(0, len(self.caches) - 1))).close()

    @invariant()
    def nothing_is_given_twice(self) -> None:
        memory = self.device.driver.memory
        areas = sorted(memory._reserved.items())
        assert all(address + size <= other for (address, size), (other, _) in pairwise(areas))
        assert not areas or (areas[0][0] >= memory.free and sum(areas[-1]) <= memory.data.size)


TestAllocator = Allocator.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestAccount = Account.TestCase
TestAccount.settings = settings(max_examples=12, stateful_step_count=15, deadline=None)


@pytest.fixture
def device():
    with fusemax.open("model", config="tiny", memory_bytes=1 << 16) as opened:
        yield opened


def test_a_finished_call_has_no_memory(device: fusemax.Device) -> None:
    x = numbers(1, 1500, 8)
    fusemax.attention(x[:3], x, x, device=device)
    with fusemax.KVCache(device, heads=1, e=8, page_size=64, pages=15):
        pass


def test_a_dropped_submission_is_given_back(device: fusemax.Device) -> None:
    x = numbers(1, 400, 8)
    for _ in range(20):
        device.submit(x, x, x)


def test_errors_keep_nothing_alive(device: fusemax.Device) -> None:
    """An abort fails many calls; who waits for one of them holds the others."""
    x = numbers(1, 100, 8)
    device.submit(x, x, x).result(30)
    before = device.driver.memory.reserved_bytes

    def wait() -> None:
        submissions = [device.submit(x, x, x) for _ in range(3)]
        device.abort()
        with pytest.raises(AbortFaultError):
            submissions[0].result(30)

    for _ in range(5):
        wait()
        gc.collect()
    device.submit(x, x, x).result(30)
    device.submit(x, x, x).result(30)
    assert device.driver.memory.reserved_bytes == before


def test_errors_are_pickled() -> None:
    error = pickle.loads(pickle.dumps(AbortFaultError(16, 3)))
    assert (type(error), error.address, error.job, str(error)) == (AbortFaultError, 16, 3, str(AbortFaultError(16, 3)))


def test_a_hole_between_caches_is_used_by_calls(device: fusemax.Device) -> None:
    first = fusemax.KVCache(device, heads=1, e=8, page_size=64, pages=15)
    with fusemax.KVCache(device, heads=1, e=8, page_size=64, pages=4):
        first.close()
        x = numbers(1, 850, 8)
        with fusemax.open("model", config="tiny") as other:
            expected = fusemax.attention(x, x, x, device=other)
        np.testing.assert_array_equal(fusemax.attention(x[:3], x, x, device=device), expected[:3])
        assert device.counters.jobs == 1
        large = numbers(1, 3000, 8)
        with pytest.raises(DeviceMemoryError, match=r"has 65536 bytes, 8192 of them reserved"):
            fusemax.attention(large, large, large, device=device)


def test_a_program_goes_where_there_is_room(device: fusemax.Device) -> None:
    """A cache that begins right behind the programs, and a hole above it."""
    memory = device.driver.memory
    hole = memory.reserve("hole", 5 * PAGE_BYTES)
    ((start, end),) = memory.gaps()
    memory.reserve("rest", (end - start) // PAGE_BYTES * PAGE_BYTES)
    memory.release(hole)
    x = numbers(1, 20, 8)
    with fusemax.open("model", config="tiny") as other:
        expected = fusemax.attention(x, x, x, device=other)
    np.testing.assert_array_equal(fusemax.attention(x, x, x, device=device), expected)

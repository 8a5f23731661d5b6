"""Ways to carry a query to a machine: alone or in company, whole or in chunks, from arrays or pages, on this device or that."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

import fusemax
from fusemax.spec import Config

__all__ = ["CARRIERS", "Prompt", "bits", "check", "prompts", "whole"]

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Prompt:
    """Queries of a sequence, of which the last one stands at the last key.

    Members
    -------
    seed
        Of its numbers, and of everything that a carrier chooses.
    heads, share, queries, keys, e, f
        Key heads, query heads of each, lengths and head dims; there are no more queries than keys.
    window
        Keys before a query's own that it sees; -1 for all.
    """

    seed: int
    heads: int
    share: int
    queries: int
    keys: int
    e: int
    f: int
    window: int = -1

    def arrays(self, seed: int | None = None) -> list[np.ndarray]:
        """Queries (heads · share, queries, e), keys and values; other ones with another seed."""
        shapes = (
            (self.heads * self.share, self.queries, self.e),
            (self.heads, self.keys, self.e),
            (self.heads, self.keys, self.f),
        )
        found = []
        for number, shape in enumerate(shapes):
            random = np.random.default_rng((self.seed if seed is None else seed, number))
            # Values of very different sizes, so that the order of a sum tells.
            spread = np.exp(2 * random.standard_normal((*shape[:2], 1))) if number == 2 else 1
            found.append((random.standard_normal(shape) * spread).astype(ml_dtypes.bfloat16))
        return found

    @property
    def options(self) -> dict[str, Any]:
        """Of the call."""
        seen = {} if self.window < 0 else {"window": (self.window, 0)}
        return {"causal": True, "return_lse": True, "out_dtype": "float32", **seen}

    @property
    def offset(self) -> int:
        return self.keys - self.queries


Result = tuple[np.ndarray, np.ndarray]
Carrier = Callable[[fusemax.Device, Prompt, np.random.Generator], Result]


@st.composite
def prompts(draw: st.DrawFn, configs: Collection[Config], most: int = 40) -> Prompt:
    """Any prompt of at most so many keys that all of these machines take."""
    keys = draw(st.integers(1, most))
    return Prompt(
        seed=draw(st.integers(0, 1 << 16)),
        heads=draw(st.integers(1, 3)),
        share=draw(st.sampled_from([1, 1, 2, 3])),
        queries=draw(st.integers(1, keys)),
        keys=keys,
        e=draw(st.integers(1, min(12, *(config.max_e for config in configs)))),
        f=draw(st.integers(1, min(12, *(config.max_f for config in configs)))),
        window=draw(st.sampled_from([-1, -1, 0, 3, 17])),
    )


def run(device: fusemax.Device, prompt: Prompt, q: np.ndarray, k: np.ndarray, v: np.ndarray, offset: int) -> Result:
    return fusemax.attention(q, k, v, device=device, query_offset=offset, timeout=TIMEOUT_S, **prompt.options)  # type: ignore[return-value]


def whole(device: fusemax.Device, prompt: Prompt) -> Result:
    """The prompt in one call, alone."""
    return run(device, prompt, *prompt.arrays(), prompt.offset)


def in_a_batch(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """Among other sequences."""
    batch = int(random.integers(2, 4))
    place = int(random.integers(batch))
    arrays = [prompt.arrays(None if entry == place else prompt.seed + 1 + entry) for entry in range(batch)]
    out, lse = run(device, prompt, *(np.stack(each) for each in zip(*arrays, strict=True)), prompt.offset)
    return out[place], lse[place]


def head_by_head(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """Every key head in a call of its own."""
    q, k, v = prompt.arrays()
    calls = []
    for head in range(prompt.heads):
        queries = slice(head * prompt.share, (head + 1) * prompt.share)
        calls.append(run(device, prompt, q[queries], k[head : head + 1], v[head : head + 1], prompt.offset))
    out, lse = (np.concatenate(each) for each in zip(*calls, strict=True))
    return out, lse


def among_heads(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """With further heads in front and behind."""
    first, last = (int(number) for number in random.integers(0, 3, 2))
    mine, others = prompt.arrays(), [prompt.arrays(prompt.seed + 1 + number) for number in range(first + last)]
    arrays = [np.concatenate(each) for each in zip(*others[:first], mine, *others[first:], strict=True)]
    out, lse = run(device, prompt, *arrays, prompt.offset)
    rows = slice(first * prompt.heads * prompt.share, (first + 1) * prompt.heads * prompt.share)
    return out[rows], lse[rows]


def cuts_of(prompt: Prompt, random: np.random.Generator) -> list[tuple[int, int]]:
    """First and last query of chunks."""
    inner = random.integers(0, prompt.queries + 1, int(random.integers(1, 4))).tolist()
    return list(pairwise(sorted({0, *inner, prompt.queries})))


def in_chunks(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """A prefill in chunks, each with the keys that there are by then."""
    q, k, v = prompt.arrays()
    calls = []
    for start, stop in cuts_of(prompt, random):
        keys = prompt.offset + stop
        calls.append(run(device, prompt, q[:, start:stop], k[:, :keys], v[:, :keys], prompt.offset + start))
    return np.concatenate([out for out, _ in calls], 1), np.concatenate([lse for _, lse in calls], 1)


def from_pages(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """A prefill in chunks from a cache, whose pages, of any multiple of the rows, lie apart: others are between them."""
    page_size = device.config.rows * int(random.integers(1, 4))
    q, k, v = prompt.arrays()
    calls, there = [], 0
    with scattered(device, prompt, page_size) as cache:
        cache.allocate("mine")
        for start, stop in cuts_of(prompt, random):
            while there < prompt.offset + stop:
                end = min(prompt.offset + stop, there + int(random.integers(1, 2 * page_size)))
                cache.append("mine", k[:, there:end], v[:, there:end])
                there = end
            found = cache.attend(q[None, :, start:stop], ["mine"], timeout=TIMEOUT_S, **prompt.options)
            calls.append([array[0] for array in found])  # type: ignore[union-attr]
    return np.concatenate([out for out, _ in calls], 1), np.concatenate([lse for _, lse in calls], 1)


def scattered(device: fusemax.Device, prompt: Prompt, page_size: int) -> fusemax.KVCache:
    """A cache with just as many free pages as a prompt needs, every other one."""
    pages = 2 * -(-prompt.keys // page_size)
    shape = {"heads": prompt.heads, "e": prompt.e, "f": prompt.f}
    cache = fusemax.KVCache(device, **shape, page_size=page_size, pages=pages)
    for name in range(pages):
        cache.allocate(name)
        k, v = (np.ones((prompt.heads, page_size, size), np.float32) for size in (prompt.e, prompt.f))
        cache.append(name, k, v)
    for name in range(0, pages, 2):
        cache.free(name)
    return cache


def packed(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """Between other sequences, packed one behind the other."""
    first, last = (prompt.arrays(prompt.seed + number)[:3] for number in (1, 2))
    parts = [first, prompt.arrays(), last]
    q, k, v = (np.concatenate([part[number] for part in parts], 1).swapaxes(0, 1) for number in range(3))
    places = [np.arange(4) * length for length in (prompt.queries, prompt.keys)]
    out, lse = fusemax.attention_varlen(q, k, v, *places, device=device, timeout=TIMEOUT_S, **prompt.options)
    rows = slice(prompt.queries, 2 * prompt.queries)
    return out[rows].swapaxes(0, 1), np.asarray(lse)[:, rows]


def submitted(device: fusemax.Device, prompt: Prompt, random: np.random.Generator) -> Result:
    """Behind calls that are in the machine, and in front of others."""
    place, calls = int(random.integers(3)), []
    for number in range(3):
        arrays = prompt.arrays(None if number == place else prompt.seed + 1 + number)
        calls.append(device.submit(*arrays, query_offset=prompt.offset, **prompt.options))
    return [call.result(TIMEOUT_S) for call in calls][place]


#: Each gives the prompt's output, float32 (query heads, queries, F), and its log-sum-exp.
CARRIERS: tuple[Carrier, ...] = (
    in_a_batch, head_by_head, among_heads, in_chunks, from_pages, packed, submitted,
)  # fmt: skip


def bits(result: Result) -> list[np.ndarray]:
    return [np.ascontiguousarray(array).view(np.uint32) for array in result]


def check(prompt: Prompt, expected: Result, carrier: Carrier, device: fusemax.Device) -> None:
    """Compare a prompt that was carried in some way.

    Raises
    ------
    AssertionError
        If a bit is another one.
    """
    found = carrier(device, prompt, np.random.default_rng((prompt.seed, 17)))
    for name, ours, theirs in zip(("output", "log-sum-exp"), bits(found), bits(expected), strict=True):
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{name}, {carrier.__name__} on {device}: {prompt}")

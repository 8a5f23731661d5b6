"""Tests of a board: its memory, attention against the model bit for bit, and a cache that grows."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..api.attention import attention
from ..api.kv_cache import KVCache
from ..bridge import Target
from ..opening import open_device
from ..runtime.device import Device
from ..spec import ceil_div
from . import minilm

__all__ = ["Outcome", "check_memory", "check_results"]

#: Bytes of a piece that is written to memory and read back.
PIECE_BYTES = 32


@dataclass(frozen=True)
class Outcome:
    """A test.

    Members
    -------
    name
        What was tested.
    right
        Whether every bit was as it should be.
    seconds
        How long it took, without the model.
    cycles
        Of the machine; 0 if it had nothing to do.
    """

    name: str
    right: bool
    seconds: float
    cycles: int = 0


def check_memory(target: Target, pieces: int = 32, seed: int = 1) -> Outcome:
    """Write pieces all over the memory, then read them: at both ends, at powers of two and their neighbours, and at random."""
    size = target.link.state.memory_bytes
    rng = random.Random(seed)
    places = {0, size - PIECE_BYTES, *(1 << bit for bit in range(6, size.bit_length() - 1))}
    places |= {rng.randrange(size - PIECE_BYTES) for _ in range(pieces)}
    start = time.monotonic()
    expected: dict[int, int] = {}
    for place in sorted(places):
        text = rng.randbytes(PIECE_BYTES)
        target.write_memory(place, text)
        expected |= dict(enumerate(text, place))
    right = all(
        target.read_memory(place, PIECE_BYTES) == bytes(expected[place + index] for index in range(PIECE_BYTES))
        for place in sorted(places)
    )
    return Outcome(f"memory, {len(places)} pieces of {PIECE_BYTES} bytes", right, time.monotonic() - start)


def check_results(device: Device, heads: int = 1, tokens: int | None = None, decode: int = 0) -> Iterator[Outcome]:
    """Random numbers in both formats, heads of a MiniLM layer, and decoding with a cache, each against the model.

    Parameters
    ----------
    device
        The board.
    heads
        Heads of the layer.
    tokens
        Only the first so many; all if not given.
    decode
        Tokens that are decoded one by one, with the keys and values of those before in a cache.
    """
    memory_bytes = max(1 << 22, device.transport.memory.size)
    with open_device("model", device.config, memory_bytes=memory_bytes) as model:
        for out_dtype in ("float32", "bfloat16"):
            shapes = ((2, 9, 16), (2, 13, 16), (2, 13, 8))
            q, k, v = (np.random.default_rng((7, n)).standard_normal(shape, np.float32) for n, shape in enumerate(shapes))
            yield compare(
                f"random numbers, {out_dtype}",
                device,
                model,
                lambda where, q=q, k=k, v=v, out_dtype=out_dtype: attention(
                    q, k, v, device=where, out_dtype=out_dtype, causal=True
                ),
            )
        data = minilm.load()
        for head in range(heads):
            q, k, v = (array[0, head, :tokens] for array in (data.q, data.k, data.v))
            name = f"MiniLM layer {data.layers[0]}, head {data.heads[head]}, {len(q)} tokens"
            yield compare(name, device, model, lambda where, q=q, k=k, v=v: attention(q, k, v, device=where))
        if decode:
            q, k, v = (array[0, :2] for array in (data.q, data.k, data.v))
            yield compare(
                f"decoding {decode} tokens with a cache", device, model, lambda where: decoded(where, q, k, v, decode)
            )


def compare(name: str, device: Device, model: Device, call: Callable[[Device], Any]) -> Outcome:
    """The same call on both."""
    start = time.monotonic()
    result = call(device)
    seconds = time.monotonic() - start
    cycles = device.counters.cycles
    return Outcome(name, np.array_equal(result.view(np.uint8), call(model).view(np.uint8)), seconds, cycles)


def decoded(device: Device, q: Any, k: Any, v: Any, tokens: int) -> Any:
    """Outputs of the last tokens of a prompt, each attending to those before it."""
    prompt = device.config.rows + 3
    heads, _, e = k.shape
    with KVCache(
        device, heads=heads, e=e, page_size=device.config.rows, pages=ceil_div(prompt + tokens, device.config.rows)
    ) as cache:
        cache.allocate("sequence")
        cache.append("sequence", k[:, :prompt], v[:, :prompt])
        outputs = []
        for place in range(prompt, prompt + tokens):
            cache.append("sequence", k[:, place : place + 1], v[:, place : place + 1])
            outputs.append(cache.attend(q[None, :, place : place + 1], ["sequence"]))
        return np.concatenate(outputs, axis=-2)

"""Inputs for fuzzing: how many, and how right ones are made wrong."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

#: Inputs of each target. ``make fuzz`` sets it; an input of hypothesis' own is a seed for a batch of them.
INPUTS = int(os.environ.get("FUSEMAX_FUZZ", "100"))
BATCH = 20


def fuzzed(function: Callable[[random.Random], None]) -> Callable[[], None]:
    """Call a test for each input, with a generator of its own; a full run has other seeds every time."""

    @settings(
        max_examples=max(1, INPUTS // BATCH),
        derandomize="FUSEMAX_FUZZ" not in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, (1 << 64) - 1))
    def test(seed: int) -> None:
        for number in range(BATCH):
            function(random.Random(f"{seed} {number}"))

    test.__name__, test.__doc__ = function.__name__, function.__doc__
    return test


def mutated(rng: random.Random, sample: Any, pieces: Sequence[Any]) -> Any:
    """A text, or bytes, with some parts deleted, repeated, exchanged, or replaced by one of ``pieces`` or by anything."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        start = rng.randrange(len(sample) + 1)
        stop = min(len(sample), start + rng.choice((0, 1, 1, 2, 5, 30)))
        part = sample[start:stop]
        what = rng.randrange(5)
        if what == 0:
            new = part[:0]
        elif what == 1:
            new = part * rng.choice((2, 3, 50))
        elif what == 2:
            new = rng.choice(pieces)
        elif what == 3:
            new = anything(rng, sample)
        else:
            other = rng.randrange(len(sample) + 1)
            new = sample[other : other + rng.randrange(20)]
        sample = sample[:start] + new + sample[stop:]
    return sample


def anything(rng: random.Random, like: Any) -> Any:
    """A few random characters, or bytes, as ``like`` has."""
    count = rng.randrange(1, 6)
    if isinstance(like, bytes):
        return rng.randbytes(count)
    return "".join(
        chr(rng.choice((rng.randrange(32, 127), rng.randrange(1, 0x300), rng.randrange(0x1F600, 0x1F650))))
        for _ in range(count)
    )


def numbers(rng: random.Random, bits: int) -> Iterator[int]:
    """Numbers of so many bits, mostly near an end or a power of two."""
    while True:
        power = 1 << rng.randrange(bits)
        yield rng.choice((0, 1, power, power - 1, (1 << bits) - 1, (1 << bits) - power, rng.getrandbits(bits))) & (
            (1 << bits) - 1
        )

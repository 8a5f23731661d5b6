"""Devices for the tests of the whole machine: the emitted Verilog with a memory, and the model beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from dask_cluster import cluster

import fusemax
from fusemax.spec import DESCRIPTOR, DESCRIPTOR_BYTES, DESCRIPTOR_STRIDE_BYTES, register
from fusemax_sim.problems import CONFIGS

__all__ = ["arrays", "cluster", "open_pair"]

#: Seconds for a call that takes one.
TIMEOUT_S = 60.0


class Pair:
    """A device of the emitted Verilog and the model, which run the same calls."""

    def __init__(self, config: str, memory: dict[str, Any], trace: Any) -> None:
        self.rtl = fusemax.open("rtl", CONFIGS[config], memory=fusemax.Memory(**memory), trace=trace)
        self.model = fusemax.open("model", CONFIGS[config])

    def __call__(self, q: Any, k: Any, v: Any, **options: Any) -> np.ndarray:
        """The result of the Verilog, after it was found to be the model's."""
        result = fusemax.attention(q, k, v, device=self.rtl, **{"timeout": TIMEOUT_S} | options)
        expected = fusemax.attention(q, k, v, device=self.model, **options)
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(bits(result), bits(expected))
        return result

    def job(self, index: int = 0) -> dict[str, int]:
        """The descriptor in that place of the ring."""
        start = index * DESCRIPTOR_STRIDE_BYTES
        image = self.model.transport.memory[start : start + DESCRIPTOR_BYTES]
        return DESCRIPTOR.unpack(int.from_bytes(image.tobytes(), "little"))

    def status(self) -> int:
        return self.rtl.transport.read_register(register("STATUS").offset)

    def close(self) -> None:
        self.rtl.close()
        self.model.close()


def bits(result: np.ndarray) -> np.ndarray:
    return result.view(np.dtype(f"u{result.itemsize}"))


@pytest.fixture
def open_pair() -> Iterator[Callable[..., Pair]]:
    """Opens a pair of a configuration, with a memory of these properties; all are closed afterwards."""
    pairs: list[Pair] = []

    def open_with(config: str = "tiny", trace: Any = None, **memory: Any) -> Pair:
        pairs.append(Pair(config, memory, trace))
        return pairs[-1]

    yield open_with
    for pair in pairs:
        pair.close()


@pytest.fixture
def arrays() -> Callable[..., list[np.ndarray]]:
    """Makes q, k and v: normally distributed, from three seeds."""

    def make(
        queries: int, keys: int, e: int, f: int | None = None, leading: tuple[int, ...] = (), seed: int = 0
    ) -> list[np.ndarray]:
        shapes = ((queries, e), (keys, e), (keys, e if f is None else f))
        return [
            np.random.default_rng((seed, name)).standard_normal((*leading, *shape), np.float32)
            for name, shape in enumerate(shapes)
        ]

    return make

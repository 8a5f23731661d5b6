"""Heads by the kernels against the NumPy model: formats at their ends, sizes far apart, infinities, overflows, segments."""

from __future__ import annotations

import numpy as np
import pytest
from gpu_place import INTERPRETER, PLACE, torch

from fusemax.arith import to_bits
from fusemax.arith.column_sum import TOP_COARSE, unit_exponent
from fusemax.cuda import heads as module
from fusemax.cuda.heads import KeySegment, compute_heads
from fusemax.cuda.sums import exponent_offset
from fusemax.model.bitexact import Head, Segment, attention_head
from fusemax.spec import CONFIGS, Config

pytestmark = INTERPRETER

MACHINES = [
    Config(name="narrow", rows=5, columns=3, score_bits=26, score_frac_bits=10),
    Config(name="wide", rows=4, columns=2, score_bits=34, score_frac_bits=20),
    Config(name="fine", rows=2, columns=2, score_bits=30, score_frac_bits=20),
    CONFIGS["base"],
]


def on_place(array: np.ndarray, kind: type) -> torch.Tensor:
    return torch.from_numpy(np.array(array).view(kind)).to(PLACE)


class Case:
    """Random heads; ``spread`` is the standard deviation of the logarithms of the values' sizes."""

    def __init__(self, seed: int, config: Config, spread: float, power: float, special: bool, segments: int) -> None:
        self.random = np.random.default_rng(seed)
        self.config, self.special = config, special
        self.heads, self.share, queries, e, f = 1, 2, 6, 19, 5
        self.q = self.bits((self.heads * self.share, queries, e), 0.5)
        self.scale = (self.random.standard_normal(self.q.shape[:2]) * 10**power).astype(np.float32)
        self.segments = []
        for number in range(segments):
            keys = int(self.random.integers(1, 25))
            k, v = self.bits((self.heads, keys, e), 0.5), self.bits((self.heads, keys, f), spread)
            edges = [None, None]
            if number or seed % 2:
                edges = [self.random.integers(0, keys + 1, self.scale.shape) for _ in range(2)]
            self.segments.append((k, v, *edges))

    def bits(self, shape: tuple[int, ...], spread: float) -> np.ndarray:
        numbers = self.random.standard_normal(shape) * np.exp(self.random.standard_normal(shape) * spread)
        numbers[self.random.random(shape) < 0.1] = 0
        bits = to_bits(np.clip(numbers, -1e30, 1e30).astype(np.float32))
        if self.special:
            bits = np.where(self.random.random(shape) < 0.02, self.random.integers(0, 1 << 16, shape), bits)
        return bits.astype(np.uint16)

    def expected(self, head: int) -> Head:
        segments = [
            Segment(k[head // self.share], v[head // self.share], *(None if edge is None else edge[head] for edge in edges))
            for k, v, *edges in self.segments
        ]
        return attention_head(self.config, self.q[head], segments, self.scale[head])

    def compare(self, float32: bool, raw: bool) -> bool:
        """Whether a score has overflowed, in both."""
        segments = [
            KeySegment(
                on_place(k, np.int16),
                on_place(v, np.int16),
                *(None if edge is None else on_place(edge.astype(np.int32), np.int32) for edge in edges),
            )
            for k, v, *edges in self.segments
        ]
        q, scale = on_place(self.q, np.int16), on_place(self.scale, np.int32)
        found = compute_heads(self.config, q, scale, segments, float32=float32, raw=raw, states=True)
        assert found.states is not None
        overflow = nonfinite = False
        for number in range(len(self.q)):
            head = self.expected(number)
            overflow |= head.overflow
            nonfinite |= head.nonfinite
            out = head.output(float32, raw)
            states = found.states[number].cpu().numpy()
            assert np.array_equal(states[:, 0], head.reference)
            assert np.array_equal(states[:, 1].view(np.uint32), head.denominator_bits())
            assert np.array_equal(found.out[number].cpu().numpy().view(out.dtype), out)
        assert found.sticky() == (overflow, nonfinite)
        return overflow


@pytest.mark.parametrize("config", MACHINES, ids=lambda config: config.name)
@pytest.mark.parametrize(("spread", "power", "special"), [(0, -1, False), (4, -1, False), (20, 0, False), (1, 0.5, True)])
def test_same_bits(config: Config, spread: float, power: float, special: bool) -> None:
    seed = MACHINES.index(config) + 4 * int(spread)
    Case(seed, config, spread, power, special, segments=1 + seed % 2).compare(float32=bool(seed & 2), raw=seed % 3 == 0)


def test_overflow_is_seen_where_it_is_visible() -> None:
    case = Case(1, CONFIGS["tiny"], spread=0, power=6, special=False, segments=1)
    assert case.compare(float32=True, raw=False)
    k, v, _, _ = case.segments[0]
    nothing = np.zeros(case.scale.shape, np.int64)
    case.segments = [(k, v, nothing, nothing)]
    # Scaled queries themselves are in range, and no query sees a key.
    assert not case.compare(float32=True, raw=False)


@pytest.mark.parametrize(("scale", "overflows"), [(1000, False), (8000, True)])
def test_a_sum_overflows_whose_products_do_not(scale: float, overflows: bool) -> None:
    """19 products of ``scale``; scores are below 2^15."""
    case = Case(2, CONFIGS["tiny"], spread=0, power=0, special=False, segments=1)
    case.q[...] = case.segments[0][0][...] = 0x3F80
    case.scale[...] = scale
    assert case.compare(float32=True, raw=False) == overflows


def test_as_many_heads_and_queries_as_there_is_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(7, CONFIGS["tiny"], spread=1, power=-1, special=False, segments=2)
    case.q, case.scale = (np.tile(array, (2, 22) + (1,) * (array.ndim - 2)) for array in (case.q, case.scale))
    case.segments = [
        (np.tile(k, (2, 1, 1)), np.tile(v, (2, 1, 1)), *(None if edge is None else np.tile(edge, (2, 22)) for edge in edges))
        for k, v, *edges in case.segments
    ]
    case.heads = 2
    monkeypatch.setattr(module, "SCRATCH_BYTES", 1)
    case.compare(float32=False, raw=False)


def test_exponents_of_units() -> None:
    for bits in range(26, 35):
        config = Config(rows=2, columns=2, score_bits=bits, score_frac_bits=10)
        first, rest = exponent_offset(config.product_align)
        for exponent in range(319):
            field = rest + (first + 7 - exponent & -8)
            assert field - 1023 - 52 == unit_exponent(config, TOP_COARSE - exponent // 8)

import time
from fractions import Fraction

import numpy as np
import pytest

from fusemax.arith import bf16
from fusemax.arith import state as st
from fusemax.arith.exp2 import Exp2Table
from fusemax.arith.query_scale import scale_query
from fusemax.arith.reciprocal import RECIPROCAL
from fusemax.model import attention, bitexact
from fusemax.model.bitexact import Segment, attention_head
from fusemax.spec import CONFIGS, Config

LOG2_E = 1.4426950408889634

# -- the contract, one number at a time, in Python integers and rationals; only the two tables are shared ---------------------


def floor(x: Fraction) -> int:
    return x.numerator // x.denominator


def half_up(x: Fraction) -> int:
    return floor(x + Fraction(1, 2))


def power(exponent: int) -> Fraction:
    return Fraction(2) ** exponent


def nearest(x: Fraction, bits: int) -> Fraction:
    """``x`` rounded to nearest even to ``bits`` significant bits."""
    if x == 0:
        return x
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if power(exponent) > abs(x):
        exponent -= 1
    unit = power(exponent - bits + 1)
    return round(x / unit) * unit


def exponent_of(x: Fraction) -> int:
    exponent = abs(x.numerator).bit_length() - x.denominator.bit_length()
    return exponent if power(exponent) <= abs(x) else exponent - 1


def element(bits: int) -> tuple[int, int]:
    exponent = bits >> 7 & 255
    sig = 128 + bits % 128 if exponent else 0
    return (-sig if bits >> 15 else sig), exponent


def scaled_query(config: Config, bits: int, scale_bits: int) -> tuple[int, int, bool]:
    sig, exponent = element(bits)
    scale_exponent = scale_bits >> 23 & 255
    scale_sig = (1 << 23) + scale_bits % (1 << 23) if scale_exponent else 0
    if sig * scale_sig == 0:
        return 0, config.query_exponent_bias, False
    value = nearest(sig * power(exponent - 134) * scale_sig * power(scale_exponent - 150), 17)
    biased = exponent_of(value) + 127
    if biased <= 0:
        return 0, config.query_exponent_bias, False
    operand = int(value / power(biased - 143))
    return (-operand if scale_bits >> 31 else operand), config.query_exponent_bias - min(biased, 254), biased >= 255


def scalar_score(config: Config, query: list[tuple[int, int, bool]], key: list[int]) -> tuple[int, bool]:
    total, overflow = 0, False
    limit = 1 << config.score_bits - 1
    for (operand, exponent_word, scale_overflow), bits in zip(query, key, strict=True):
        sig, exponent = element(bits)
        shift = exponent_word + 255 - exponent
        total += half_up(operand * sig * power(config.product_align - shift)) if shift >= 0 else 0
        overflow |= scale_overflow or shift < 0 or not -limit <= total < limit
        total = (total + limit) % (2 * limit) - limit
    return total, overflow


def scalar_weight(config: Config, score: int, reference: int) -> tuple[int, int]:
    frac_bits = config.score_frac_bits
    whole, fraction = divmod(score, 1 << frac_bits)
    index, rest = divmod(fraction, 1 << frac_bits - 5)
    mantissa = (Exp2Table.values[index] + half_up(rest * Exp2Table.slopes[index] * power(17 - frac_bits - 8))) // 2
    w = reference - whole
    return (mantissa, w) if w <= 63 else (0, 0)


def scalar_sum(config: Config, weights: list[tuple[int, int]], values: list[tuple[int, int]]) -> Fraction:
    """Products down a column: a row without weight does nothing; the unit grows by steps of 8 binary places."""
    total, coarse = 0, None
    for (mantissa, w), (sig, exponent) in zip(weights, values, strict=True):
        if not mantissa:
            continue
        amount = w + 255 - exponent
        if coarse is None or amount // 8 < coarse:
            steps = 0 if coarse is None else coarse - amount // 8
            total = floor(total * power(-8 * steps)) if steps <= 3 else 0
            coarse = amount // 8
        total += half_up(mantissa * sig * power(config.product_align + 8 * coarse - amount))
        assert -(1 << config.sum_bits - 1) <= total < 1 << config.sum_bits - 1
    return total * power(255 - 127 - 23 - config.product_align - 8 * (coarse or 0))


def scalar_reciprocal(significand: int) -> int:
    index, low = divmod(significand - (1 << 23), 1 << 15)
    offset = low - (1 << 14)
    slope = RECIPROCAL.c1[index] - RECIPROCAL.c2[index] * (offset // 32) // 2**13
    return (RECIPROCAL.c0[index] - offset * slope // 2**14) // 4


def scalar_output(numerator: Fraction, denominator: Fraction, bits: int) -> int:
    if not numerator or not denominator:
        return 0
    exponent = exponent_of(denominator)
    value = nearest(numerator * scalar_reciprocal(int(denominator * power(23 - exponent))) * power(-24 - exponent), bits)
    sign = int(value < 0) << bits + 7
    if abs(value) < power(-126):
        return 0
    if abs(value) >= power(128):
        return sign | 255 << bits - 1
    exponent = exponent_of(value)
    return sign | (exponent + 126 << bits - 1) + int(abs(value) * power(bits - 1 - exponent))


def scalar_attention(
    config: Config, q, k, v, scale_bits, bits: int, lo=None, hi=None, starts=None
) -> tuple[list[list[int]], list[tuple[int, Fraction]], bool]:
    """Output bits; reference and denominator; overflow. ``scale_bits``, ``lo`` and ``hi`` are of each query row; tiles begin
    anew at the keys ``starts``."""
    q, k, v = q.tolist(), k.tolist(), v.tolist()
    f = len(v[0])
    lo, hi = [0] * len(q) if lo is None else lo, [len(k)] * len(q) if hi is None else hi
    ends = [*(starts or [0])[1:], len(k)]
    tiles = [
        range(first, min(first + config.rows, end))
        for start, end in zip(starts or [0], ends, strict=True)
        for first in range(start, end, config.rows)
    ]
    out, states, overflow = [], [], False
    for number, row in enumerate(q):
        query = [scaled_query(config, element_bits, scale_bits[number]) for element_bits in row]
        overflow |= any(flag for _, _, flag in query)
        reference = None
        state = [Fraction(0)] * (f + 1)
        for tile in tiles:
            scores = [scalar_score(config, query, k[m]) for m in tile]
            seen = [lo[number] <= m < hi[number] for m in tile]
            overflow |= any(flag and there for (_, flag), there in zip(scores, seen, strict=True))
            scores = [score for score, _ in scores]
            new = reference
            if any(seen):
                largest = max(score for score, there in zip(scores, seen, strict=True) if there)
                new = -(-largest // (1 << config.score_frac_bits))
                new = new if reference is None else max(reference, new)
            distance = 255 if reference is None else min(new - reference, 255)
            reference = new
            weights = [
                scalar_weight(config, score, reference) if there else (0, 0) for score, there in zip(scores, seen, strict=True)
            ]
            for column in range(f + 1):
                values = [element(v[m][column]) if column < f else (128, 127) for m in tile]
                updated = nearest(state[column] * power(-distance) + scalar_sum(config, weights, values), 24)
                state[column] = updated if abs(updated) >= power(-511) else Fraction(0)
        out.append([scalar_output(numerator, state[f], bits) for numerator in state[:f]])
        states.append((reference or 0, state[f]))
    return out, states, overflow


def check(config: Config, q, k, v, scale) -> bool:
    """Both output types against the scalar contract; returns the overflow flag."""
    flag = False
    for float32, bits in ((True, 24), (False, 8)):
        got = attention(config, q, k, v, scale, float32)
        scale_bits = [int(np.float32(scale).view(np.uint32))] * len(q)
        expected, _, flag = scalar_attention(config, q, k, v, scale_bits, bits)
        assert got.out_bits.tolist() == expected
        assert got.overflow == flag
        assert got.out_bits.dtype == (np.uint32 if float32 else np.uint16)
    return flag


# -- inputs ---------------------------------------------------------------------------------------------------------------


def normal(seed: int, *shape: int, factor: float = 1.0) -> np.ndarray:
    """bfloat16 bits of normally distributed numbers."""
    return bf16.to_bits((np.random.default_rng(seed).standard_normal(shape) * factor).astype(np.float32))


def words(seed: int, low: int, high: int, *shape: int) -> np.ndarray:
    """bfloat16 bits with random sign, mantissa and a biased exponent from ``low`` to ``high``."""
    rng = np.random.default_rng(seed)
    exponent = rng.integers(low, high + 1, shape)
    return (rng.integers(0, 2, shape) << 15 | exponent << 7 | rng.integers(0, 128, shape)).astype(np.uint16)


MACHINES = {
    "3x5": Config(rows=3, columns=5),
    "4x4": CONFIGS["tiny"],
    "2x2 narrow": Config(rows=2, columns=2, score_bits=26, score_frac_bits=10),
    "3x2 fine": Config(rows=3, columns=2, score_bits=34, score_frac_bits=20),
    "5x3 few integer bits": Config(rows=5, columns=3, score_bits=26, score_frac_bits=16),
    "12x4": Config(rows=12, columns=4, score_frac_bits=18),
    "256x2": Config(rows=256, columns=2),
}
SHAPES = [(1, 1, 1, 1), (4, 4, 4, 4), (5, 9, 5, 5), (9, 7, 3, 2), (2, 8, 1, 5), (3, 25, 2, 3)]


@pytest.mark.parametrize("config", MACHINES.values(), ids=MACHINES)
@pytest.mark.parametrize("p, m, e, f", SHAPES)
def test_equals_the_scalar_contract(config: Config, p: int, m: int, e: int, f: int):
    for seed, factor in enumerate((0.3, 1.0, 4.0, 12.0)):
        q, k, v = normal(3 * seed, p, e, factor=factor), normal(3 * seed + 1, m, e), normal(3 * seed + 2, m, f)
        check(config, q, k, v, np.float32(LOG2_E / np.sqrt(e)))


@pytest.mark.parametrize("config", MACHINES.values(), ids=MACHINES)
def test_equals_the_scalar_contract_on_wide_exponents(config: Config):
    flags = []
    for seed, (q_range, k_range, v_range) in enumerate(
        [
            ((110, 135), (110, 135), (0, 255)),
            ((0, 140), (120, 132), (100, 160)),
            ((120, 130), (0, 255), (0, 30)),
            ((0, 255), (0, 255), (0, 255)),
            ((125, 131), (125, 131), (225, 255)),
            ((128, 134), (128, 134), (0, 3)),
            ((250, 255), (0, 20), (120, 130)),
        ]
    ):
        q, k, v = words(100 + seed, *q_range, 5, 4), words(200 + seed, *k_range, 9, 4), words(300 + seed, *v_range, 9, 5)
        flags += [check(config, q, k, v, np.float32(scale)) for scale in (0.3, -1.4, 2.0**-40, 2.0**90, 0.0)]
    assert any(flags) and not all(flags)


def test_scores_wrap_and_set_the_flag():
    config = CONFIGS["tiny"]
    one, big = 0x3F80, 0x4680  # 1 and 2^14
    k = np.array([[big, big, one]], np.uint16)
    v = np.array([[one]], np.uint16)
    for q, flag in (([one, 0, one], False), ([one, one, one], True), ([one, one, 0xC780], True), ([0xBF80, 0xBF80, 0], False)):
        assert check(config, np.array([q], np.uint16), k, v, 1.0) is flag, q


def test_scaled_query_overflow_sets_the_flag():
    q, k, v = (np.array([[bits]], np.uint16) for bits in (0x7F7F, 0x0080, 0x3F80))
    assert not check(CONFIGS["tiny"], q, k, v, 1.0)
    assert check(CONFIGS["tiny"], q, k, v, 1.5)


def test_a_negative_shift_sets_the_flag():
    # 2^14 · 2 is 2^15: placed without its last bit of shift it would look like a score of 2^14.
    q, k, v = (np.array([[bits]], np.uint16) for bits in (0x4680, 0x4000, 0x3F80))
    assert check(CONFIGS["tiny"], q, k, v, 1.0)
    assert not check(CONFIGS["tiny"], q, k, v, 0.75)


@pytest.mark.parametrize("step", [90.0, 200.0, 300.0])
def test_references_that_rise_until_the_state_vanishes(step: float):
    # Scores 0, step, 2 step …: the state of the first tile falls towards 2^-511 and becomes zero. The last tile's sums have
    # 25 bits, the last one set: ties, which anything left of the first tile would break.
    config = MACHINES["2x2 narrow"]
    for tiles in range(2, 9):
        scores = np.repeat(np.arange(tiles) * step, 2)
        k = bf16.to_bits(np.stack([scores, np.zeros_like(scores)], axis=1).astype(np.float32))
        k[-2:, 1] = 0x3EC0  # and 0.375
        v = words(400 + tiles, 1, 3, 2 * tiles, 32)
        v[2:] = 0
        v[-2] = 0x3F80 | np.arange(65, 128, 2)
        check(config, np.full((2, 2), 0x3F80, np.uint16), k, v, 1.0)


@pytest.mark.parametrize("case", ["random", "state larger", "addend larger"])
def test_state_update_equals_the_operator(case: str):
    rng = np.random.default_rng(410)
    count = 100_000
    significand = rng.integers(1 << 23, 1 << 24, count) * rng.choice([-1, 1], count)
    state = np.ldexp(significand.astype(np.float64), rng.integers(-60, 60, count))
    value = rng.integers(-(1 << 35), 1 << 35, count) >> rng.integers(0, 36, count)
    unit = rng.integers(-90, 60, count)
    # Ties, and ties but for a bit that float64 cannot hold.
    if case == "state larger":
        value = ((1 << 34) + rng.integers(-1, 2, count)) * rng.choice([-1, 1], count)
        unit = np.frexp(state)[1] - 25 - 34
    elif case == "addend larger":
        value = (rng.integers(1 << 23, 1 << 24, count) * 2 + 1) * 2 ** rng.integers(1, 10, count) * rng.choice([-1, 1], count)
        unit = np.frexp(state)[1] + rng.integers(0, 80, count)
    before = bitexact.from_float64(state)
    work, bits = np.empty(count), np.empty(count, np.int64)
    bitexact.add_to_state(state, np.ldexp(value.astype(np.float64), unit), work, bits)
    expected = st.accumulate(before, 0, value, unit)
    for got, want in zip(bitexact.from_float64(state), expected, strict=True):
        assert np.array_equal(got, want)


def test_checked_and_fast_scores_agree():
    config = CONFIGS["small"]
    keys = bitexact.Keys(config, normal(2, 70, 16))
    scaled = scale_query(config, normal(1, 40, 16), np.float32(0.4).view(np.uint32))
    fast, fast_overflow = keys.scores(scaled)
    checked, checked_overflow = keys._checked_scores(slice(0, 70), scaled.operand.T, scaled.exponent_word.T)
    assert np.array_equal(fast, checked)
    assert not fast_overflow and not checked_overflow.any()


@pytest.mark.parametrize("numbers", [1, 100, 1 << 20])
def test_block_sizes_do_not_matter(monkeypatch: pytest.MonkeyPatch, numbers: int):
    q, k, v = normal(1, 20, 6), normal(2, 37, 6), normal(3, 37, 7)
    expected = attention(CONFIGS["base"], q, k, v, 0.6, True).out_bits
    monkeypatch.setattr(bitexact, "BLOCK_NUMBERS", numbers)
    monkeypatch.setattr(bitexact, "QUERY_BLOCK", 7)
    assert np.array_equal(attention(CONFIGS["base"], q, k, v, 0.6, True).out_bits, expected)


@pytest.mark.parametrize("config", MACHINES.values(), ids=MACHINES)
def test_masks_and_row_factors_equal_the_scalar_contract(config: Config):
    """Key intervals of every kind: all keys, none, in the midst of a tile, beyond the end; a factor per row."""
    for seed in range(6):
        random = np.random.default_rng(500 + seed)
        q, k, v = normal(3 * seed, 9, 3, factor=4), normal(3 * seed + 1, 14, 3), normal(3 * seed + 2, 14, 4)
        lo, hi = random.integers(-3, 15, 9), random.integers(-3, 18, 9)
        lo[0], hi[0], lo[1], hi[1] = 0, 14, 5, 5
        scale = random.uniform(0.1, 2, 9).astype(np.float32) * random.choice([-1, 1], 9).astype(np.float32)
        got = attention(config, q, k, v, scale, True, lo, hi)
        expected, _, flag = scalar_attention(config, q, k, v, scale.view(np.uint32).tolist(), 24, lo, hi)
        assert got.out_bits.tolist() == expected
        assert got.overflow == flag
        assert not got.out_bits[hi <= np.maximum(lo, 0)].any()


@pytest.mark.parametrize("config", MACHINES.values(), ids=MACHINES)
def test_segments_equal_the_scalar_contract(config: Config):
    """Keys in three pieces with masks of their own: tiles begin anew, the state goes on."""
    for seed in range(4):
        random = np.random.default_rng(600 + seed)
        q, k, v = normal(3 * seed, 6, 3, factor=5), normal(3 * seed + 1, 17, 3), normal(3 * seed + 2, 17, 2)
        starts = [0, *sorted(random.choice(np.arange(1, 17), 2, replace=False).tolist())]
        lo, hi = random.integers(-2, 12, 6), random.integers(2, 20, 6)
        segments = [
            Segment(k[start:stop], v[start:stop], lo - start, hi - start)
            for start, stop in zip(starts, [*starts[1:], 17], strict=True)
        ]
        head = attention_head(config, q, segments, np.float32(0.8))
        scale_bits = [int(np.float32(0.8).view(np.uint32))] * 6
        expected, states, flag = scalar_attention(config, q, k, v, scale_bits, 24, lo, hi, starts)
        assert head.output(True).tolist() == expected
        assert (
            list(zip(head.reference.tolist(), map(Fraction, st.to_float64(head.denominator).tolist()), strict=True)) == states
        )
        assert head.overflow == flag


def test_overflow_of_a_masked_score_is_none():
    config = CONFIGS["tiny"]
    one, big = 0x3F80, 0x4680
    q, k, v = (np.array(rows, np.uint16) for rows in ([[one, one]], [[one, one], [big, big]], [[one], [one]]))
    assert attention(config, q, k, v, 1.0, True).overflow
    assert not attention(config, q, k, v, 1.0, True, hi=1).overflow
    # The scores wrap, and a smaller one must not become the reference.
    alone = attention(config, q, k[:1], v[:1], 1.0, True).out_bits
    assert np.array_equal(attention(config, q, k, v, 1.0, True, hi=1).out_bits, alone)


@pytest.mark.parametrize("name", ["tiny", "base"])
def test_tiles_without_a_visible_key_may_be_left_out(name: str):
    config = CONFIGS[name]
    q, k, v = normal(1, 5, 8, factor=3), normal(2, 90, 8), normal(3, 90, 4)
    lo, hi = np.array([33, 40, 50, 47, 36]), np.array([41, 55, 52, 63, 64])
    whole = attention(config, q, k, v, 0.5, True, lo, hi).out_bits
    assert np.array_equal(attention(config, q, k[32:64], v[32:64], 0.5, True, lo - 32, hi - 32).out_bits, whole)


def test_raw_numerators_and_denominator():
    config = CONFIGS["small"]
    q, k, v = normal(1, 20, 8), normal(2, 30, 8), normal(3, 30, 4)
    head = attention_head(config, q, [Segment(k, v, hi=np.arange(20))], np.float32(0.5))
    numerator, denominator = head.output(True, raw=True).view(np.float32), head.denominator_bits().view(np.float32)
    assert numerator.shape == (20, 4)
    assert denominator[0] == 0 and not numerator[0].any() and head.reference[0] == 0
    quotient = numerator[1:].astype(np.float64) / denominator[1:, None]
    assert np.allclose(quotient, head.output(True).view(np.float32)[1:], rtol=2.0**-22, atol=0)


def test_columns_do_not_matter_and_heads_broadcast():
    config = CONFIGS["tiny"]
    q, k, v = normal(1, 2, 6, 5, 8), normal(2, 2, 1, 9, 8), normal(3, 2, 1, 9, 3)
    whole = attention(config, q, k, v, 0.5, False)
    assert whole.out_bits.shape == (2, 6, 5, 3)
    for batch in range(2):
        for head in range(6):
            one = attention(Config(rows=4, columns=7), q[batch, head], k[batch, 0], v[batch, 0], 0.5, False)
            assert np.array_equal(whole.out_bits[batch, head], one.out_bits)


def test_nonfinite_flag():
    for which in range(3):
        for bits in (0x7F80, 0xFF80, 0x7FC0):
            arrays = [normal(seed, 3, 4) for seed in range(3)]
            assert not attention(CONFIGS["tiny"], *arrays, 0.5, True).nonfinite
            arrays[which][1, 2] = bits
            assert attention(CONFIGS["tiny"], *arrays, 0.5, True).nonfinite


@pytest.mark.parametrize(
    "change, error, message",
    [
        ({"q": np.zeros((2, 3), np.float32)}, TypeError, "q must be an array of type uint16 .*, not float32"),
        ({"k": np.zeros((4, 2), np.uint16)}, ValueError, r"k must end in \(4, 3\) as q and v do, not \(4, 2\)"),
        ({"v": np.zeros((0, 3), np.uint16)}, ValueError, r"v must have at least two axes and no empty one, not shape \(0, 3\)"),
        ({"v": np.zeros((4, 65), np.uint16)}, ValueError, r"head dims must be at most 64 \(E\) and 64 \(F\), not 3 and 65"),
    ],
)
def test_rejects(change: dict, error: type[Exception], message: str):
    arrays = {"q": np.zeros((2, 3), np.uint16), "k": np.zeros((4, 3), np.uint16), "v": np.zeros((4, 3), np.uint16), **change}
    with pytest.raises(error, match=message):
        attention(CONFIGS["tiny"], **arrays, scale=1.0, out_float32=True)


# -- error against exact attention ----------------------------------------------------------------------------------------


def exact_attention(q, k, v) -> np.ndarray:
    """float64 attention of the same bfloat16 inputs."""
    q, k, v = (bf16.from_bits(array).astype(np.float64) for array in (q, k, v))
    scores = q @ k.T / np.sqrt(q.shape[1])
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ v / weights.sum(axis=1, keepdims=True)


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(got - expected) / np.linalg.norm(expected))


def outlier_column(seed: int, m: int, f: int) -> np.ndarray:
    v = np.random.default_rng(seed).standard_normal((m, f)).astype(np.float32)
    v[:, f // 2] *= 1000
    return bf16.to_bits(v)


FAMILIES = {
    "normal": lambda: (normal(1, 128, 64), normal(2, 1024, 64), normal(3, 1024, 64)),
    "peaked": lambda: (normal(1, 128, 64, factor=4), normal(2, 1024, 64), normal(3, 1024, 64)),
    "x12 scores": lambda: (normal(1, 128, 64, factor=12), normal(2, 1024, 64), normal(3, 1024, 64)),
    "constant": lambda: (np.full((64, 64), 0x3F80, np.uint16), np.full((256, 64), 0x3F00, np.uint16), normal(3, 256, 64)),
    "outlier column": lambda: (normal(1, 128, 64), normal(2, 1024, 64), outlier_column(3, 1024, 64)),
    "4K keys": lambda: (normal(1, 32, 64), normal(2, 4096, 64), normal(3, 4096, 64)),
    "E 128": lambda: (normal(1, 128, 128), normal(2, 1024, 128), normal(3, 1024, 128)),
}


@pytest.mark.parametrize("name", ["tiny", "base"])
@pytest.mark.parametrize("family", FAMILIES)
def test_error_budget(family: str, name: str):
    q, k, v = FAMILIES[family]()
    config = Config(**{**CONFIGS[name].to_dict(), "max_e": 128, "max_f": 128})
    scale = np.float32(LOG2_E / np.sqrt(q.shape[1]))
    expected = exact_attention(q, k, v)
    got = attention(config, q, k, v, scale, True)
    error = relative_error(got.out_bits.view(np.float32), expected)
    assert not got.overflow
    assert error <= 1e-4, error

    rounded = bf16.from_bits(attention(config, q, k, v, scale, False).out_bits)
    unavoidable = relative_error(bf16.from_bits(bf16.to_bits(expected.astype(np.float32))), expected)
    ratio = relative_error(rounded, expected) / unavoidable
    assert ratio <= 1.03, ratio


@pytest.mark.parametrize("name", ["tiny", "base", "paper"])
def test_values_of_one_give_one(name: str):
    ones = np.full((1000, 4), 0x3F80, np.uint16)
    for seed, factor in enumerate((0.1, 1.0, 12.0)):
        got = attention(
            CONFIGS[name], normal(seed, 300, 64, factor=factor), normal(seed + 10, 1000, 64), ones, LOG2_E / 8, True
        )
        assert np.abs(got.out_bits.view(np.float32).astype(np.float64) - 1).max() <= 2.4e-7


def test_weights_sum_to_one():
    identity = bf16.to_bits(np.eye(64, dtype=np.float32))
    for seed, factor in enumerate((1.0, 4.0)):
        got = attention(
            CONFIGS["tiny"], normal(seed, 500, 64, factor=factor), normal(seed + 10, 64, 64), identity, LOG2_E / 8, True
        )
        weights = got.out_bits.view(np.float32).astype(np.float64)
        assert (weights >= 0).all()
        assert np.abs(weights.sum(axis=1) - 1).max() <= 1e-6


def test_speed():
    q, k, v = normal(1, 256, 64), normal(2, 256, 64), normal(3, 256, 64)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        attention(CONFIGS["tiny"], q, k, v, 0.18, True)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 2.0  # about 0.02 s on an idle core

"""The interpreter of microwords: softmax as the fast path has it, every operation as its scalar model, programs as float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

import fusemax
from fusemax.arith import bf16
from fusemax.arith.column_sum import ColumnSum, add_product, unit_exponent
from fusemax.arith.exp2 import exp2
from fusemax.arith.score_slices import score_slices, slice_exponent
from fusemax.cascade import parse
from fusemax.cascade.catalog import DIRECTORY
from fusemax.compiler.micro import Constant, Micro, Operation, Register
from fusemax.compiler.microwords import encode
from fusemax.compiler.modulo_schedule import Binding, modulo_schedule
from fusemax.compiler.program import Program
from fusemax.errors import ScoreOverflowError
from fusemax.model.bitexact import NO_WEIGHT, Head, Segment, Values, attention_head
from fusemax.model.interpreter import is_softmax, program_head
from fusemax.model.micro_operations import Weights, exponential, sum_scores
from fusemax.opening import open_device
from fusemax.runtime.device import Device
from fusemax.spec import CONFIGS

BASE = replace(CONFIGS["base"], name="functions", functions=True, entropy=True)
TINY = replace(CONFIGS["tiny"], name="tiny_functions", functions=True, entropy=True)
TEXT = (DIRECTORY / "sigmoid_attention.yaml").read_text(encoding="utf-8")
NORMALIZED = (DIRECTORY / "sigmoid_attention_normalized.yaml").read_text(encoding="utf-8")


def problem(queries: int, keys: int, e: int, f: int, seed: int, spread: float = 1.0) -> tuple[np.ndarray, ...]:
    shapes = (queries, e), (keys, e), (keys, f)
    return tuple(
        (np.random.default_rng(seed + 100 * number).normal(size=shape) * (spread if number == 0 else 1))
        .astype(ml_dtypes.bfloat16)
        .astype(np.float32)
        for number, shape in enumerate(shapes)
    )


def bits(*arrays: np.ndarray) -> list[np.ndarray]:
    return [bf16.to_bits(array) for array in arrays]


def states(head: Head) -> list[np.ndarray]:
    return [*head.numerator, *head.denominator, head.reference, np.array([head.overflow, head.nonfinite])]


@pytest.mark.parametrize("config", ["tiny", "base"])
@pytest.mark.parametrize("binding", list(Binding))
@pytest.mark.parametrize("seed", range(4))
def test_softmax_is_what_the_fast_path_gives(config: str, binding: Binding, seed: int) -> None:
    """With several segments, masks, tails, queries that see nothing, large scores and ones that leave their range."""
    rng = np.random.default_rng(seed)
    queries, e, f = (int(rng.integers(1, most)) for most in (40, 24, 24))
    program = fusemax.compile(head_dim=e, value_dim=f, config=config, binding=binding)
    assert is_softmax(program)
    spread = float(rng.choice([0.1, 3, 400]))
    q, *_ = problem(queries, 1, e, f, seed, spread)
    segments = []
    for part in range(int(rng.integers(1, 4))):
        keys = int(rng.integers(1, 70))
        _, k, v = problem(1, keys, e, f, 10 * seed + part + 1)
        lo, hi = rng.integers(-5, keys, queries), rng.integers(0, keys + 5, queries)
        masked = part % 2 == 0
        segments.append(Segment(*bits(k, v), lo if masked else None, hi if masked else None))
    scale = rng.uniform(0.1, 1, queries).astype(np.float32)
    fast = attention_head(program.config, *bits(q), segments, scale)
    for one, other in zip(states(fast), states(program_head(program, *bits(q), segments, scale)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_other_programs_do_not_take_the_fast_path() -> None:
    assert not is_softmax(fusemax.compile("attention_entropy", head_dim=8, config=BASE))
    assert not is_softmax(fusemax.compile("sigmoid_attention", head_dim=8, config=BASE))
    plain = parse(TEXT.replace("sigmoid", "exp"))
    assert not is_softmax(fusemax.compile(plain, head_dim=8, config=BASE))


def test_an_accumulator_is_cleared_by_a_key_of_zero() -> None:
    """A program by hand: 2^S / 2 as a score of its own, and that as a signed weight."""
    e, f = 3, 2
    micros = (
        *(Micro(Operation.QK, index=index, first=index == 0) for index in range(e)),
        Micro(Operation.MAX),
        Micro(Operation.EXP, reference=4),
        Micro(Operation.QK, first=True, source=Register.SPARE),
        Micro(Operation.ADD, constant=Constant(128, -4)),
        Micro(Operation.MAX, rides=True),
        Micro(Operation.LIN),
        Micro(Operation.SUM, index=f),
        *(Micro(Operation.SLNV, index=index) for index in range(f)),
    )
    words = encode(modulo_schedule(micros, TINY, e, f))
    program = Program(TINY, e, f, words, fixed_reference=True)
    program.check()
    assert Program.from_listing(program.listing(), TINY) == program
    q, k, v = problem(6, 11, e, f, 12, spread=0.5)
    head = program_head(program, *bits(q), [Segment(*bits(k, v))], np.float32(1))
    out = head.output(True, raw=True).view(np.float32)
    right = 2.0 ** (q.astype(float) @ k.T) / 2 / 16 @ v.astype(float)
    assert np.linalg.norm(out - right) < 3e-4 * np.linalg.norm(right)


# -- operations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [False, True])
def test_exponential_is_exp2(absolute: bool) -> None:
    score = np.random.default_rng(1).integers(-(1 << 24), 1 << 24, (64, 5))
    for reference in (-3, 0, 2, 300):
        mine, scalar = exponential(BASE, score, reference, absolute), exp2(BASE, score, reference, absolute)
        np.testing.assert_array_equal(mine.mantissa, scalar.mantissa)
        np.testing.assert_array_equal(mine.exponent, scalar.exponent)


@pytest.mark.parametrize("index", range(3))
def test_sums_of_scores_are_taken_row_by_row(index: int) -> None:
    rng = np.random.default_rng(index)
    weights = Weights(rng.integers(1 << 16, 1 << 17, (37, 3)), rng.integers(0, 64, (37, 3)))
    score = rng.integers(-(1 << 24), 1 << 24, (37, 3))
    found = sum_scores(BASE, weights, score, index)
    total = ColumnSum(np.zeros(3, np.int64), np.zeros(3, np.int64))
    for row in range(32, 37):
        value = score_slices(BASE, score[row])[index]
        total = add_product(BASE, total, weights.mantissa[row], weights.exponent[row], value, slice_exponent(BASE, index))
    np.testing.assert_array_equal(found[2], total.value * 2.0 ** unit_exponent(BASE, total.coarse))


@pytest.mark.parametrize("signed", [False, True])
def test_sums_of_weights_are_those_of_the_pe(signed: bool) -> None:
    """Every bit of the sums, before a state is rounded; few bits of weights and values make many ties."""
    rng = np.random.default_rng(5)
    sign = rng.choice([-1, 1], (8, 1, 6)) if signed else 1
    mantissa = sign * (rng.integers(0, 8, (8, 1, 6)) << rng.integers(0, 15, (8, 1, 6)))
    v = rng.choice([1, -1, 3, -5, 7], (8, 4)) * 2.0 ** rng.integers(-30, 3, (8, 4))
    values = Values(TINY, bf16.to_bits(v.astype(np.float32)), signed=signed)
    exponents = np.where(mantissa == 0, NO_WEIGHT, 0).astype(np.int16)
    tiles = mantissa.reshape(2, 4, 1, 6).astype(float), exponents.reshape(2, 4, 1, 6)
    found = values.column_sums(slice(0, 2), *tiles)
    sig, exponent = bf16.unpack(bf16.to_bits(v.astype(np.float32)))
    for tile in range(2):
        total = ColumnSum(np.zeros((4, 6), np.int64), np.zeros((4, 6), np.int64))
        for row in range(4 * tile, 4 * tile + 4):
            total = add_product(TINY, total, mantissa[row], 0, sig[row, :, None], 255 - exponent[row, :, None])
        np.testing.assert_array_equal(found[tile, :4], total.value * 2.0 ** unit_exponent(TINY, total.coarse))


# -- through the device --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device("model", BASE, memory_bytes=1 << 23) as opened:
        yield opened


def compiled(weight: str, text: str = TEXT, e: int = 64, f: int = 64, **options: float) -> Program:
    return fusemax.compile(parse(text.replace("sigmoid(QK[m, p])", weight)), head_dim=e, value_dim=f, config=BASE, **options)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize(
    ("weight", "function", "bound", "most"),
    [
        ("sigmoid(QK[m, p])", sigmoid, None, 7e-5),
        ("sigmoid(QK[m, p] - 6.93)", lambda x: sigmoid(x - 6.93), None, 7e-5),
        ("sigmoid(2 * QK[m, p] - 12)", lambda x: sigmoid(2 * x - 12), None, 1e-4),
        ("elu1(QK[m, p])", lambda x: np.maximum(x, 0) + np.exp(np.minimum(x, 0)), None, 4.1e-5),
        ("1 * QK[m, p]", lambda x: x, 8.0, 7e-5),
        ("relu(QK[m, p])", lambda x: np.maximum(x, 0), 8.0, 7e-5),
        ("exp(QK[m, p] - 1)", lambda x: np.exp(x - 1), 8.0, 5e-5),
        ("exp(min(QK[m, p], 0))", lambda x: np.exp(np.minimum(x, 0)), None, 5e-5),
    ],
)
@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_programs_against_float64(
    device: Device, weight: str, function, bound: float | None, most: float, normalized: bool, causal: bool
) -> None:
    if normalized and weight.startswith("1 *"):
        return
    options = {} if bound is None else {"score_bound": bound}
    program = compiled(weight, NORMALIZED if normalized else TEXT, **options)
    q, k, v = problem(70, 130, 64, 64, 3)
    out = fusemax.attention(
        q, k, v, device=device, program=program, out_dtype="float32", causal=causal, query_offset=60 if causal else 0
    )
    weights = function(q.astype(float) @ k.T.astype(float) / 8)
    if causal:
        weights *= np.arange(130) <= np.arange(70)[:, None] + 60
    right = weights @ v.astype(float)
    if normalized:
        right /= weights.sum(1, keepdims=True)
    assert np.linalg.norm(out - right) <= most * np.linalg.norm(right)
    slots = {"sigmoid": 5, "elu1": 5, "1 * ": 1, "relu": 1, "exp(Q": 0, "exp(m": 1}
    wanted = next(count for start, count in slots.items() if weight.startswith(start))
    assert device.counters.slots_function == wanted * device.counters.tiles


def test_cycles_follow_the_program(device: Device) -> None:
    q, k, v = problem(128, 1024, 64, 64, 4)
    cycles = []
    for program in (None, compiled("sigmoid(QK[m, p])"), compiled("elu1(QK[m, p])")):
        fusemax.attention(q, k, v, device=device, program=program, out_dtype="float32")
        cycles.append(device.counters.cycles)
    assert cycles[1] / cycles[0] < 1.07
    assert cycles[2] / cycles[0] < 1.05


def test_queries_that_see_no_key_give_zeros(device: Device) -> None:
    q, k, v = problem(5, 40, 16, 8, 6)
    program = compiled("elu1(QK[m, p])", e=16, f=8)
    out = fusemax.attention(q, k, v, device=device, program=program, out_dtype="float32", causal=True, query_offset=-3)
    assert (out[:3] == 0).all()
    assert (out[3:] != 0).any()


def test_scores_beyond_the_bound_are_noticed(device: Device) -> None:
    q, k, v = problem(5, 40, 16, 8, 7, spread=4)
    program = compiled("1 * QK[m, p]", e=16, f=8, score_bound=0.5)
    with pytest.raises(ScoreOverflowError):
        fusemax.attention(q, k, v, device=device, program=program)


def test_submitted_calls_run_programs(device: Device) -> None:
    q, k, v = problem(20, 50, 64, 64, 8)
    program = compiled("sigmoid(QK[m, p])")
    submitted = [device.submit(q, k, v, program=which, out_dtype="float32") for which in (program, None, program)]
    results = [submission.result() for submission in submitted]
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[0], fusemax.attention(q, k, v, device=device, program=program, out_dtype="float32"))
    np.testing.assert_array_equal(results[1], fusemax.attention(q, k, v, device=device, out_dtype="float32"))


def test_entropy_beside_attention(device: Device) -> None:
    q, k, v = problem(70, 300, 64, 64, 9, spread=2)
    program = fusemax.compile("attention_entropy", head_dim=64, config=BASE)
    assert (program.ii, program.f) == (134, 67)
    out, lse, state = fusemax.attention(
        q, k, v, device=device, program=program, out_dtype="float32", return_lse=True, return_state=True
    )
    out = out / state.denominator[:, None]
    weights = np.exp(q.astype(float) @ k.T.astype(float) / 8)
    weights /= weights.sum(1, keepdims=True)
    assert np.abs(out[:, 3:] - weights @ v).max() < 1e-4
    entropy = lse - out[:, :3].astype(float).sum(1) * np.log(2)
    assert np.abs(entropy + (weights * np.log(weights)).sum(1)).max() < 2e-4


def test_options_about_a_softmax_are_refused(device: Device) -> None:
    q, k, v = problem(5, 40, 16, 8, 7)
    program = compiled("sigmoid(QK[m, p])", e=16, f=8)
    for options in ({"return_lse": True}, {"sink": [0.0]}, {"alibi_slopes": [0.5]}):
        with pytest.raises(ValueError, match="must not be given with a program without a running maximum"):
            fusemax.attention(q[None], k[None], v[None], device=device, program=program, **options)  # type: ignore[call-overload]

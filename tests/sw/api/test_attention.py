"""fusemax.attention on the model device."""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fusemax
from fusemax.compiler.modulo_schedule import Binding
from fusemax.errors import DeviceClosedError, DeviceMemoryError, NonFiniteError, RuleError, ScoreOverflowError
from fusemax.model import bitexact
from fusemax.model.cycles import cycles
from fusemax.planning.descriptors import Shape
from fusemax.spec import CONFIGS, MICROWORD, Config, Op, register

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def arrays(leading: tuple[int, ...], queries: int, keys: int, e: int, f: int, seed: int = 0) -> list[np.ndarray]:
    shapes = ((*leading, queries, e), (*leading, keys, e), (*leading, keys, f))
    return [np.random.default_rng((seed, number)).standard_normal(shape, np.float32) for number, shape in enumerate(shapes)]


def exact(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    q, k, v = (array.astype(BFLOAT16).astype(np.float64) for array in (q, k, v))
    scores = scale * q @ np.swapaxes(k, -1, -2)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights @ v / weights.sum(-1, keepdims=True)


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(result.astype(np.float64) - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def device():
    with fusemax.open("model", config="small") as opened:
        yield opened


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 1, 2, 2)])
@pytest.mark.parametrize(("out_dtype", "limit"), [("bfloat16", 4e-3), ("float32", 1e-4)])
def test_against_float64(device: fusemax.Device, leading: tuple[int, ...], out_dtype: str, limit: float) -> None:
    q, k, v = arrays(leading, 21, 35, 16, 12)
    result = fusemax.attention(q, k, v, device=device, out_dtype=out_dtype)
    assert result.shape == (*leading, 21, 12)
    assert result.dtype == np.dtype(out_dtype) if out_dtype == "float32" else result.dtype == BFLOAT16
    assert relative_error(result, exact(q, k, v, 0.25)) < limit


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["tiny", "small", "base"]),
    st.integers(1, 100),
    st.integers(1, 100),
    st.integers(1, 64),
    st.integers(1, 64),
    st.integers(1, 3),
    st.booleans(),
    st.integers(0, 1000),
)
def test_bits_are_those_of_the_model(
    config: str, queries: int, keys: int, e: int, f: int, heads: int, float32_out: bool, seed: int
) -> None:
    q, k, v = (array.astype(BFLOAT16) for array in arrays((heads,), queries, keys, e, f, seed))
    with fusemax.open("model", config=config) as opened:
        result = fusemax.attention(q, k, v, 0.3, opened, out_dtype="float32" if float32_out else "bfloat16")
    factor = np.float32(0.3 * np.log2(np.e))
    for head in range(heads):
        bits = [array[head].view(np.uint16) for array in (q, k, v)]
        expected = bitexact.attention(CONFIGS[config], *bits, factor, float32_out).out_bits
        np.testing.assert_array_equal(result[head].view(expected.dtype), expected)


def test_float32_is_rounded_to_nearest_even(device: fusemax.Device) -> None:
    one = np.ones((1, 1), np.float32)
    for value, expected in ((1 + 2**-8, 1.0), (1 + 3 * 2**-8, 1 + 2**-6), (1 + 2**-8 + 2**-20, 1 + 2**-7)):
        assert fusemax.attention(one, one, np.full((1, 1), value, np.float32), device=device)[0, 0] == expected


def test_scale(device: fusemax.Device) -> None:
    q, k, v = arrays((), 8, 24, 16, 4)
    default = fusemax.attention(q, k, v, device=device, out_dtype="float32")
    np.testing.assert_array_equal(default, fusemax.attention(q, k, v, 0.25, device=device, out_dtype="float32"))
    for scale in (-1.5, np.float32(0.01), 2):
        assert (
            relative_error(fusemax.attention(q, k, v, scale, device, out_dtype="float32"), exact(q, k, v, float(scale))) < 1e-4
        )


def test_arrays_need_not_be_contiguous(device: fusemax.Device) -> None:
    q, k, v = arrays((2,), 9, 13, 8, 8)
    expected = fusemax.attention(q, k, v, device=device)
    laid_out = [np.asfortranarray(array) for array in (q, k, v)]
    assert not laid_out[0].flags.c_contiguous
    np.testing.assert_array_equal(fusemax.attention(*laid_out, device=device), expected)
    reversed_twice = [array[:, ::-1][:, ::-1] for array in (q, k, v)]
    np.testing.assert_array_equal(fusemax.attention(*reversed_twice, device=device), expected)


def test_inputs_stay_as_they_are_and_the_result_is_a_copy(device: fusemax.Device) -> None:
    q, k, v = arrays((), 9, 13, 8, 8)
    copies = [array.copy() for array in (q, k, v)]
    first = fusemax.attention(q, k, v, device=device)
    kept = first.copy()
    fusemax.attention(v, k, q[:1].repeat(13, 0), device=device)
    np.testing.assert_array_equal(first, kept)
    for array, copy in zip((q, k, v), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_without_a_device() -> None:
    q, k, v = arrays((2, 2), 20, 20, 8, 8)
    with fusemax.open("model", config="small") as opened:
        np.testing.assert_array_equal(fusemax.attention(q, k, v), fusemax.attention(q, k, v, device=opened))


def test_a_device_of_its_own_is_as_large_as_the_call_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["fusemax.runtime.room"], "MEMORY_BYTES", 1 << 13)
    for shape in (((3,), 300, 500, 64, 64), ((), 1, 1, 1, 1), ((2, 2), 77, 90, 13, 5)):
        for out_dtype in ("bfloat16", "float32"):
            fusemax.attention(*arrays(*shape), out_dtype=out_dtype)


def test_progress(device: fusemax.Device) -> None:
    seen = []
    fusemax.attention(*arrays((4,), 20, 20, 8, 8), device=device, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (9, 36)
    assert seen[-1] == (36, 36)


ONE = np.ones((4, 8), np.float32)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"q": [[1, 2]]}, TypeError, "q must be of bfloat16, float16, float32 or float64 numbers, not int64: numpy.asarray"),
        ({"v": ONE > 0}, TypeError, "v must be of bfloat16, float16, float32 or float64 numbers, not bool"),
        ({"q": ONE[0]}, ValueError, r"q must have at least 2 axes, length and head dim, not shape \(8,\)"),
        ({"q": ONE[:, :0]}, ValueError, r"q must have a head dim of at least 1, not shape \(4, 0\)"),
        ({"k": ONE[None].repeat(2, 0)}, ValueError, r"leading axes .* but for the heads of q, not \(1,\), \(2,\) and \(1,\)"),
        ({"k": ONE[:, :4]}, ValueError, "head dim of k must be that of q, 8, not 4"),
        ({"v": ONE[:2]}, ValueError, "length of v must be that of k, 4, not 2"),
        ({"scale": float("nan")}, ValueError, "scale must be zero or a finite number"),
        ({"scale": float("-inf")}, ValueError, "scale must be zero or a finite number"),
        ({"scale": 1e-40}, ValueError, "scale must be zero or a finite number"),
        ({"scale": 3e38}, ValueError, "scale must be zero or a finite number"),
        ({"scale": "1"}, TypeError, "scale must be a number, one per query head, or None, not '1'"),
        ({"scale": True}, TypeError, "scale must be a number, one per query head, or None, not True"),
        ({"out_dtype": "float16"}, ValueError, "out_dtype must be 'bfloat16' or 'float32', not 'float16'"),
        ({"out_dtype": np.float16}, ValueError, "out_dtype must be 'bfloat16' or 'float32'"),
        ({"timeout": 0}, ValueError, "timeout must be greater than 0, not 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be greater than 0, not nan"),
        ({"timeout": "1 s"}, TypeError, "timeout must be a number of seconds or None, not '1 s'"),
        ({"progress": 3}, TypeError, "progress must be a function or None, not 3"),
        ({"device": "model"}, TypeError, "device must be a Device or None, not 'model'"),
    ],
)
def test_wrong_arguments(device: fusemax.Device, change: dict, error: type[Exception], message: str) -> None:
    device.transport.write_register(register("COUNTERS_CLEAR").offset, 1)
    with pytest.raises(error, match=message):
        fusemax.attention(**{"q": ONE, "k": ONE, "v": ONE, "device": device} | change)
    assert device.counters.jobs == 0


def test_head_dims_beyond_the_machine(device: fusemax.Device) -> None:
    wide = np.ones((4, 65), np.float32)
    with pytest.raises(ValueError, match="head dim of q and k must be at most 64 on 'small', not 65"):
        fusemax.attention(wide, wide, ONE, device=device)
    with pytest.raises(ValueError, match="head dim of v must be at most 64 on 'small', not 65"):
        fusemax.attention(ONE, ONE, wide, device=device)


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("value", [np.inf, np.nan, 3.4e38])
def test_numbers_must_be_finite_in_bfloat16(device: fusemax.Device, name: str, value: float) -> None:
    bad = ONE.copy()
    bad[2, 5] = value
    with pytest.raises(NonFiniteError, match=rf"{name} must be finite in bfloat16, not .* at \(2, 5\)"):
        fusemax.attention(**{"q": ONE, "k": ONE, "v": ONE, name: bad}, device=device)


def test_scores_out_of_range(device: fusemax.Device) -> None:
    big = np.full((4, 8), 1000, np.float32)
    for _ in range(2):
        with pytest.raises(ScoreOverflowError, match=r"must stay within ±2\^15, but have not"):
            fusemax.attention(big, big, ONE, device=device)
        np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)


def test_closed_device() -> None:
    device = fusemax.open()
    device.close()
    with pytest.raises(DeviceClosedError, match="the device must be open, but was closed"):
        fusemax.attention(ONE, ONE, ONE, device=device)


def test_memory_that_is_too_small() -> None:
    q = np.ones((200, 64), np.float32)
    with fusemax.open(memory_bytes=1 << 15) as device:
        with pytest.raises(
            DeviceMemoryError, match=r"the keys need 25600 bytes and end at \d+, but the device memory has 32768"
        ):
            fusemax.attention(q, q, q, device=device)
        np.testing.assert_array_equal(fusemax.attention(ONE, ONE, ONE, device=device), ONE)


def test_other_configurations(device: fusemax.Device) -> None:
    config = Config(name="wide_bus", rows=3, columns=5, bus_bits=1024, max_e=20, max_f=33, query_tiles=1)
    q, k, v = arrays((2,), 30, 17, 20, 33)
    with fusemax.open(config=config) as opened:
        assert relative_error(fusemax.attention(q, k, v, device=opened, out_dtype="float32"), exact(q, k, v, 20**-0.5)) < 1e-4


# -- programs of the caller's ------------------------------------------------------------------------------------------


def test_a_program_of_the_caller_s(device: fusemax.Device) -> None:
    """The same result in its own number of cycles; the next call has the default program again."""
    q, k, v = arrays((2,), 24, 40, 16, 12)
    found = []
    for binding in (*reversed(Binding), Binding.CO_ISSUED):
        program = fusemax.compile(head_dim=16, value_dim=12, binding=binding)
        given = program if binding is not Binding.CO_ISSUED else None
        result = fusemax.attention(q, k, v, device=device, program=given)
        expected = cycles(program, Shape(heads=2, queries=24, keys=40, e=16, f=12)).cycles
        assert device.counters.cycles == expected
        found.append((result.view(np.uint16), expected))
    assert all(np.array_equal(result, found[0][0]) for result, _ in found)
    counts = [count for _, count in found]
    assert counts[0] < counts[1] < counts[2] > counts[3] == counts[0]


def test_a_program_without_a_device() -> None:
    q, k, v = arrays((), 9, 9, 8, 8)
    program = fusemax.compile(head_dim=8, binding=Binding.SERIAL)
    np.testing.assert_array_equal(fusemax.attention(q, k, v, program=program), fusemax.attention(q, k, v))


def test_a_program_must_fit(device: fusemax.Device) -> None:
    q, k, v = arrays((), 9, 9, 8, 4)
    with pytest.raises(TypeError, match="program must be a Program or None, not 'serial'"):
        fusemax.attention(q, k, v, device=device, program="serial")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="program must be for 'small', as the device is, not for 'tiny'"):
        fusemax.attention(q, k, v, device=device, program=fusemax.compile(head_dim=8, value_dim=4, config="tiny"))
    with pytest.raises(ValueError, match="program must be for head dims 8 and 4, as q and v have, not 8 and 8"):
        fusemax.attention(q, k, v, device=device, program=fusemax.compile(head_dim=8))


def test_a_program_that_the_machine_cannot_run(device: fusemax.Device, monkeypatch) -> None:
    """Found by the host, on any device: the machine itself would go wrong without a word."""
    q, k, v = arrays((), 9, 9, 8, 4)
    program = fusemax.compile(head_dim=8, value_dim=4)
    words = [MICROWORD.unpack(word) for word in program.microwords]
    for word in words:
        word["stage"] -= word["op"] == Op.EXP
    broken = fusemax.Program(program.config, 8, 4, tuple(MICROWORD.pack(word) for word in words))
    monkeypatch.setattr(device.driver, "attention", lambda *arguments, **options: pytest.fail("was run"))
    with pytest.raises(RuleError, match=r"^reference, slot"):
        fusemax.attention(q, k, v, device=device, program=broken)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^scores times log2\(e\) must stay within ±2\^15, but have not; choose a smaller scale$"),
        (
            {"temperature": 1e-4},
            r"^scores by their temperature times log2\(e\) must .*; choose a smaller scale or a higher temperature$",
        ),
        ({"alibi_slopes": [-1000.0]}, r"^scores with ALiBi times log2\(e\) must .*; choose a smaller scale or smaller slopes$"),
    ],
)
def test_an_overflow_says_what_caused_it(options, message):
    x = np.ones((1, 100, 16), np.float32) * (300 if not options else 3)
    with fusemax.open("model", config="tiny") as device:
        for call in (
            lambda: fusemax.attention(x, x, x, device=device, **options),
            lambda: device.submit(x, x, x, **options).result(30),
        ):
            with pytest.raises(ScoreOverflowError, match=message):
                call()

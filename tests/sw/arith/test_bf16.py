import ml_dtypes
import numpy as np
import pytest

from fusemax.arith import bf16

ALL = np.arange(1 << 16, dtype=np.uint16)


def test_unpack_gives_every_value():
    sig, exponent = bf16.unpack(ALL)
    with np.errstate(invalid="ignore"):
        values = ALL.view(ml_dtypes.bfloat16).astype(np.float64)
    normal = np.isfinite(values) & (np.abs(values) >= 2.0**-126)
    assert np.array_equal((sig * 2.0 ** (exponent - 134.0))[normal], values[normal])
    assert normal.sum() == 2 * 254 * 128


def test_unpack_of_zeros_and_subnormals_is_zero():
    sig, exponent = bf16.unpack(ALL[(ALL & 0x7F80) == 0])
    assert not sig.any() and not exponent.any()


def test_unpack_takes_exponent_255_for_a_number():
    sig, exponent = bf16.unpack(np.array([0x7F80, 0xFF80, 0x7FC1, 0xFFFF], np.uint16))
    assert sig.tolist() == [128, -128, 193, -255]
    assert exponent.tolist() == [255] * 4


def test_nonfinite():
    with np.errstate(invalid="ignore"):
        values = ALL.view(ml_dtypes.bfloat16).astype(np.float32)
    assert np.array_equal(bf16.is_nonfinite(ALL), ~np.isfinite(values))


def test_to_bits_rounds_as_ml_dtypes():
    rng = np.random.default_rng(11)
    high = rng.integers(0, 1 << 16, 100_000)
    low = rng.integers(0, 1 << 16, 100_000)
    ties = np.concatenate([ALL.astype(np.int64) << 16 | tail for tail in (0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF)])
    numbers = np.concatenate([high << 16 | low, ties]).astype(np.uint32).view(np.float32)
    nan = np.isnan(numbers)
    with np.errstate(invalid="ignore"):
        expected = numbers.astype(ml_dtypes.bfloat16)
    assert np.array_equal(bf16.to_bits(numbers)[~nan], expected.view(np.uint16)[~nan])
    assert np.isnan(bf16.from_bits(bf16.to_bits(numbers)[nan])).all()


def test_to_bits_of_bfloat16_is_the_same_word():
    assert np.array_equal(bf16.to_bits(ALL.view(ml_dtypes.bfloat16)), ALL)


def test_from_bits():
    finite = ALL[~bf16.is_nonfinite(ALL)]
    assert np.array_equal(bf16.from_bits(finite), finite.view(ml_dtypes.bfloat16).astype(np.float32))


def test_to_bits_rejects_float64():
    with pytest.raises(TypeError, match="array must be of type float32 or bfloat16, not float64"):
        bf16.to_bits(np.zeros(3))

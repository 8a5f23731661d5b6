"""Biases as the machine reads them: rounding of operands, and where elements lie."""

from __future__ import annotations

import numpy as np
import pytest

from fusemax.arith.query_scale import scale_query
from fusemax.planning.bias_rows import as_operands, operands_of, pack_bias
from fusemax.spec import CONFIGS, Config

BASE = CONFIGS["base"]


def values_of(packed: np.ndarray) -> np.ndarray:
    operands = operands_of(packed)
    return np.ldexp(operands.operand.astype(float), BASE.query_exponent_bias - operands.exponent_word - 127 - 16)


def test_operands_are_rounded_to_17_bits() -> None:
    random = np.random.default_rng(1)
    numbers = random.standard_normal(10000) * 2.0 ** random.integers(-100, 100, 10000)
    numbers[:4] = 0, 1, -(2 - 2.0**-20), 2.0**-200
    found = values_of(as_operands(BASE, numbers))
    assert (np.abs(found - numbers) <= 2.0**-17 * np.abs(numbers))[:3].all()
    assert (np.abs(found - numbers)[4:] <= 2.0**-17 * np.abs(numbers)[4:]).all()
    assert found[3] == 0
    assert found[2] == -2


def test_operands_are_those_of_scaled_numbers() -> None:
    """What the machine makes of bfloat16 numbers and a factor of 1."""
    bits = np.random.default_rng(2).integers(0, 1 << 16, 5000).astype(np.uint16)
    bits = bits[bits >> 7 & 0xFF < 255]
    numbers = (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    numbers[bits >> 7 & 0xFF == 0] = 0
    scaled, packed = scale_query(BASE, bits, np.float32(1).view(np.uint32)), operands_of(as_operands(BASE, numbers))
    np.testing.assert_array_equal(scaled.operand, packed.operand)
    np.testing.assert_array_equal(scaled.exponent_word, packed.exponent_word)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
@pytest.mark.parametrize(("rows", "bus_bits"), [(16, 128), (3, 64), (9, 256), (5, 128), (2, 32)])
def test_a_key_tile_takes_whole_bus_words(dtype: type, rows: int, bus_bits: int) -> None:
    config = Config(rows=rows, columns=4, bus_bits=bus_bits)
    numbers = np.arange(1, 2 * 3 * 23 + 1, dtype=dtype).reshape(2, 3, 23)
    packed = pack_bias(config, numbers)
    per_tile = -(-rows * numbers.itemsize // config.bus_bytes) * config.bus_bytes
    elements = packed.view(dtype).reshape(2, 3, -1, per_tile // numbers.itemsize)
    for key in range(23):
        tile, row = divmod(key, rows)
        np.testing.assert_array_equal(elements[..., tile, row], numbers[..., key])
    assert (elements != 0).sum() == numbers.size

"""Packed masks: bits by key tile in whole bus words."""

from __future__ import annotations

import numpy as np
import pytest

from fusemax import PackedMask
from fusemax.spec import Config

MACHINES = [(4, 64), (3, 32), (16, 128), (9, 256), (20, 64), (27, 32)]


@pytest.mark.parametrize(("rows", "bus_bits"), MACHINES)
@pytest.mark.parametrize("keys", [1, 5, 64, 70])
def test_every_bit_is_where_the_machine_looks(rows: int, bus_bits: int, keys: int) -> None:
    config = Config(rows=rows, columns=4, bus_bits=bus_bits)
    mask = np.random.default_rng(keys).random((2, 3, keys)) < 0.5
    packed = PackedMask(mask, config)
    assert packed.shape == mask.shape
    assert packed.rows.shape[-1] % config.bus_bytes == 0
    bits = np.unpackbits(packed.rows, axis=-1, bitorder="little")
    field = 16 if rows <= 16 else 32
    for key in range(keys):
        tile, row = divmod(key, rows)
        word, place = divmod(tile, bus_bits // field)
        found = bits[..., word * bus_bits + place * field + row]
        np.testing.assert_array_equal(found, mask[..., key])
    assert bits.sum() == mask.sum()


def test_sixteen_rows_are_what_numpy_packs() -> None:
    mask = np.random.default_rng(1).random((5, 256)) < 0.5
    assert (PackedMask(mask, "base").rows == np.packbits(mask, axis=-1, bitorder="little")).all()


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.ones((2, 2)), TypeError, "mask must be an array of bool, not float64"),
        ([[True]], TypeError, "mask must be an array of bool, not list"),
        (np.ones(3, np.bool_), ValueError, r"mask must have at least the axes of queries and keys, .* not shape \(3,\)"),
        (np.ones((0, 3), np.bool_), ValueError, r"an element, not shape \(0, 3\)"),
    ],
)
def test_what_is_no_mask(mask: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        PackedMask(mask)  # type: ignore[arg-type]


def test_machines() -> None:
    mask = np.ones((2, 2), np.bool_)
    with pytest.raises(ValueError, match="rows of 'paper' must be at most 27 for a mask, not 256"):
        PackedMask(mask, "paper")
    with pytest.raises(ValueError, match="must be packed for 16 rows and a bus of 128 bits, as 'base' has, not for 8 and 64"):
        PackedMask(mask, "small").check(Config(name="base", rows=16, columns=16, bus_bits=128))
    assert repr(PackedMask(mask, "small")) == "PackedMask of shape (2, 2) for 8 rows and a bus of 64 bits"

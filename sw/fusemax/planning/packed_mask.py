"""A boolean mask as the machine reads it: bits, in bus words of as many key tiles as they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..spec import Config, config_named

__all__ = ["PackedMask"]


class PackedMask:
    """Pack a boolean mask for machines of one shape, so that several calls need not.

    A key tile takes 16 bits of a row, or 32 on arrays of more than 16 rows: bit r of them is key r of the tile, the bits behind
    the array's rows are 0. Key tiles follow each other through the bus words of the row; the last word is filled up with zeros.
    With 16 rows these are the bytes of ``numpy.packbits(mask, axis=-1, bitorder="little")``.

    Parameters
    ----------
    mask : array (..., P, M) of bool
        True is seen. An axis of size 1 stands for any number, but not the last one.
    config
        The machine, or the name of a configuration.

    Members
    -------
    shape
        Shape of the mask.
    rows
        Bytes, (..., P, whole bus words).

    Raises
    ------
    TypeError
        If ``mask`` is not an array of truth values.
    ValueError
        If it has fewer than two axes, or none of its elements, or the machine has more rows than bits go down a column.
    """

    def __init__(self, mask: NDArray[Any], config: str | Config = "small") -> None:
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise TypeError(f"mask must be an array of bool, not {getattr(mask, 'dtype', type(mask).__name__)}")
        if mask.ndim < 2 or mask.size == 0:
            raise ValueError(f"mask must have at least the axes of queries and keys, and an element, not shape {mask.shape}")
        machine = config_named(config)
        if not machine.mask_block_tiles:
            raise ValueError(f"rows of {machine.name!r} must be at most 27 for a mask, not {machine.rows}")
        self.shape = mask.shape
        self._machine = machine.rows, machine.bus_bits
        self._field_bytes = machine.mask_field_bits // 8
        self.rows = _pack(machine, mask)

    def check(self, config: Config) -> None:
        """Check that it is packed for such a machine.

        Raises
        ------
        ValueError
            If it is not.
        """
        if (config.rows, config.bus_bits) != self._machine:
            rows, bus_bits = self._machine
            raise ValueError(
                f"mask must be packed for {config.rows} rows and a bus of {config.bus_bits} bits, as {config.name!r} has, "
                f"not for {rows} and {bus_bits}"
            )

    def unpack(self) -> NDArray[np.bool_]:
        """Read the mask again."""
        rows = self._machine[0]
        fields = self.rows.reshape(*self.rows.shape[:-1], -1, self._field_bytes)
        bits = np.unpackbits(fields, axis=-1, bitorder="little")[..., :rows]
        return bits.reshape(*self.rows.shape[:-1], -1)[..., : self.shape[-1]].astype(np.bool_)

    def __repr__(self) -> str:
        rows, bus_bits = self._machine
        return f"PackedMask of shape {self.shape} for {rows} rows and a bus of {bus_bits} bits"


def _pack(config: Config, mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    rows, field_bits, keys = config.rows, config.mask_field_bits, mask.shape[-1]
    if rows == field_bits:
        packed = np.packbits(mask, axis=-1, bitorder="little")
    else:
        tiles = np.zeros((*mask.shape[:-1], -(-keys // rows) * rows), np.bool_)
        tiles[..., :keys] = mask
        packed = np.packbits(tiles.reshape(*mask.shape[:-1], -1, rows), axis=-1, bitorder="little")
        fields = np.zeros((*packed.shape[:-1], field_bits // 8), np.uint8)
        fields[..., : packed.shape[-1]] = packed
        packed = fields.reshape(*mask.shape[:-1], -1)
    words = np.zeros((*mask.shape[:-1], -(-packed.shape[-1] // config.bus_bytes) * config.bus_bytes), np.uint8)
    words[..., : packed.shape[-1]] = packed
    return words

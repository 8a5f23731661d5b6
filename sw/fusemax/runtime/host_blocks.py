"""Arrays of the host that the device can use as they lie: rows of whole bus words at strides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..spec import Config

__all__ = ["Block", "Place", "find_blocks"]

#: Strides are numbers of 32 bits.
STRIDE_LIMIT = 1 << 32
#: Bytes of a block are at most this many times those of its arrays; otherwise they are packed.
MOST_WASTE = 1.25

Bits = NDArray[np.uint16]


@dataclass(frozen=True)
class Place:
    """An array (batch, heads, rows, elements) in a block: bytes in front of it, and strides of its first three axes."""

    offset: int
    strides: tuple[int, int, int]


@dataclass(frozen=True)
class Block:
    """Bytes of the host's memory, the arrays in it by name, and the bytes of their longest row."""

    data: NDArray[np.uint8]
    places: dict[str, Place]
    row_bytes: int

    @property
    def size(self) -> int:
        return self.data.size


@dataclass(frozen=True)
class _Extent:
    """Addresses of the first byte of an array and of the one behind its last."""

    name: str
    array: Bits
    start: int
    stop: int


def find_blocks(config: Config, arrays: Mapping[str, Bits]) -> list[Block]:
    """Blocks of those of the arrays that can be used as they lie; arrays that lie within each other share one."""
    extents = sorted(
        (_extent(name, array) for name, array in arrays.items() if _is_usable(config, array)), key=lambda extent: extent.start
    )
    clusters: list[list[_Extent]] = []
    for extent in extents:
        if clusters and extent.start < max(other.stop for other in clusters[-1]):
            clusters[-1].append(extent)
        else:
            clusters.append([extent])
    found = []
    for cluster in clusters:
        first = cluster[0]
        size = max(extent.stop for extent in cluster) - first.start
        aligned = all((extent.start - first.start) % config.bus_bytes == 0 for extent in cluster)
        if aligned and size <= MOST_WASTE * sum(extent.array.nbytes for extent in cluster):
            row = first.array[(0,) * (first.array.ndim - 1)]
            data = np.lib.stride_tricks.as_strided(row.view(np.uint8), (size,), (1,), writeable=False)
            places = {e.name: Place(e.start - first.start, _strides(e.array)) for e in cluster}
            found.append(Block(data, places, max(extent.array[0, 0, 0].nbytes for extent in cluster)))
    # In the order of the arrays, not of the host's addresses: what lies where on the device is the same every time.
    return sorted(found, key=lambda block: min(list(arrays).index(name) for name in block.places))


def _strides(array: Bits) -> tuple[int, int, int]:
    """Strides of batch, heads and rows; 0 of an axis of length 1."""
    batch, heads, rows = (
        0 if length == 1 else stride for length, stride in zip(array.shape[:3], array.strides[:3], strict=True)
    )
    return batch, heads, rows


def _extent(name: str, array: Bits) -> _Extent:
    start = array.__array_interface__["data"][0]
    last = sum((length - 1) * stride for length, stride in zip(array.shape, array.strides, strict=True))
    return _Extent(name, array, start, start + last + array.itemsize)


def _is_usable(config: Config, array: Bits) -> bool:
    """Rows are whole bus words, one behind the other or further apart; batch entries may all be the same one."""
    row_bytes = array.shape[-1] * array.itemsize
    return (
        array.strides[-1] == array.itemsize
        and row_bytes % config.bus_bytes == 0
        and all(
            stride % config.bus_bytes == 0 and (row_bytes <= stride < STRIDE_LIMIT or axis == stride == 0)
            for axis, (length, stride) in enumerate(zip(array.shape[:-1], array.strides[:-1], strict=True))
            if length > 1
        )
    )

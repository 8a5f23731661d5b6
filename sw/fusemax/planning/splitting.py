"""Calls that device memory has no room for, cut into parts that it has: batch entries, then heads.

Each query head stands for itself, so the parts give the same bits as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .descriptors import Keys
from .masks import Mask
from .memory_map import Shape
from .output_rows import Rows
from .pair_rows import PairRows

__all__ = ["Part", "PartKeys", "Results", "split"]

Range = tuple[int, int]
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Part:
    """Batch entries, key heads, and query heads of each of those: the first and the one behind the last.

    Of several key heads a part has all their query heads, of several batch entries all their heads.
    """

    batch: Range
    heads: Range
    share: Range

    def shape(self, shape: Shape) -> Shape:
        """Shape of the part, of a call's."""
        batch, heads, share = (last - first for first, last in (self.batch, self.heads, self.share))
        return replace(shape, batch=batch, heads=heads, share=share)

    def query_heads(self, shape: Shape) -> Range:
        """The query heads, counted through all key heads."""
        first = self.heads[0] * shape.share + self.share[0]
        return first, first + (self.heads[1] - self.heads[0]) * (self.share[1] - self.share[0])

    def rows(self, shape: Shape, name: str, array: NDArray[Number]) -> NDArray[Number]:
        """The part's rows of an array (batch, heads, ...) called ``q``, ``k``, ``v`` or ``o``."""
        heads = self.heads if name in "kv" else self.query_heads(shape)
        return array[slice(*self.batch), slice(*heads)]

    def scale(self, shape: Shape, scale: ArrayLike) -> ArrayLike:
        """The part's factors of one for all, or (batch, query heads, queries)."""
        return self.rows(shape, "q", np.asarray(scale)) if np.ndim(scale) else scale

    def pairs(self, shape: Shape, pairs: PairRows) -> PairRows:
        """The part's rows of mask bits or biases."""
        batch, heads = (
            slice(*wanted) if size > 1 else slice(None)
            for wanted, size in zip((self.batch, self.query_heads(shape)), pairs.rows.shape, strict=False)
        )
        return PairRows(pairs.rows[batch, heads])

    def mask(self, mask: Mask) -> Mask:
        """The part's mask."""

        def some(numbers: tuple[int, ...]) -> tuple[int, ...]:
            return numbers[slice(*self.batch)] if len(numbers) > 1 else numbers

        lengths = None if mask.key_lengths is None else some(mask.key_lengths)
        starts = some(mask.key_starts)
        return replace(mask, offsets=some(mask.offsets), prefixes=some(mask.prefixes), key_lengths=lengths, key_starts=starts)


@dataclass(frozen=True)
class PartKeys:
    """Keys or values in device memory, of a part (:class:`~.descriptors.Keys`)."""

    keys: Keys
    part: Part

    @property
    def address(self) -> int:
        return self.keys.address

    @property
    def row_stride(self) -> int:
        return self.keys.row_stride

    @property
    def head_stride(self) -> int:
        return self.keys.head_stride

    @property
    def batch_stride(self) -> int | None:
        return self.keys.batch_stride

    def place(self, entry: int, head: int, share: int, row: int) -> int:
        """Address of a row."""
        return self.keys.place(entry + self.part.batch[0], head + self.part.heads[0], share, row)

    def runs(self, entry: int, keys: int) -> Sequence[Range]:
        """Keys of a batch entry that lie at the row stride from each other."""
        return self.keys.runs(entry + self.part.batch[0], keys)


class Results:
    """Rows of a call, put together from those of its parts."""

    def __init__(self, shape: Shape, parts: int) -> None:
        self._shape, self._parts = shape, parts
        self._rows: Rows | None = None

    def put(self, part: Part, rows: Rows) -> None:
        """Take the rows of a part."""
        if self._parts == 1:
            self._rows = rows
            return
        if self._rows is None:
            self._rows = Rows(*(None if array is None else self._whole(array) for array in _arrays(rows)))  # type: ignore[arg-type]
        for whole, some in zip(_arrays(self._rows), _arrays(rows), strict=True):
            if whole is not None and some is not None:
                part.rows(self._shape, "o", whole)[...] = some

    def _whole(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        heads = self._shape.heads * self._shape.share
        return np.empty((self._shape.batch, heads, *array.shape[2:]), array.dtype)

    @property
    def rows(self) -> Rows:
        """All of them."""
        assert self._rows is not None
        return self._rows


def _arrays(rows: Rows) -> tuple[NDArray[np.generic] | None, ...]:
    return rows.out, rows.reference, rows.denominator


def split(shape: Shape, fits: Callable[[Shape], bool]) -> list[Part]:
    """Parts of a call that fit, as few as one axis after the other gives; single heads if not even those do.

    ``fits`` tells of a shape whether there is room for it; of smaller ones there is then, too.
    """
    lengths = {"batch": shape.batch, "heads": shape.heads, "share": shape.share}
    sizes = dict(lengths)
    for axis, length in lengths.items():
        if fits(replace(shape, **sizes)):
            break
        sizes[axis] = _most(length, lambda size, axis=axis: fits(replace(shape, **sizes | {axis: size})))
    return [Part(*ranges) for ranges in _ranges(lengths, sizes)]


def _ranges(lengths: dict[str, int], sizes: dict[str, int]) -> Iterator[tuple[Range, Range, Range]]:
    def cut(axis: str) -> list[Range]:
        return list(pairwise([*range(0, lengths[axis], sizes[axis]), lengths[axis]]))

    for batch in cut("batch"):
        for heads in cut("heads"):
            for share in cut("share"):
                yield batch, heads, share


def _most(length: int, fits: Callable[[int], bool]) -> int:
    """The largest length from 1 on that fits, 1 if none does."""
    low, high = 1, length
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low

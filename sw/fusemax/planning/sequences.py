"""Sequences of different lengths, packed one behind the other in the rows of one batch entry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..compiler.program import Program
from ..spec import Config, Descriptor
from .descriptors import Keys, describe
from .masks import Mask
from .memory_map import Buffer, Shape

__all__ = ["PackedSequence", "describe_packed"]

Range = tuple[int, int]


@dataclass(frozen=True)
class PackedSequence:
    """A sequence's rows, the first and the one behind the last, and its mask, which counts from its own first rows."""

    queries: Range
    keys: Range
    mask: Mask


def describe_packed(
    config: Config,
    shape: Shape,
    program: Program,
    program_address: int,
    buffers: Mapping[str, Buffer | Keys],
    scale: np.float32 | float = 1.0,
    *,
    sequences: Sequence[PackedSequence],
) -> list[Descriptor]:
    """The descriptors of a call, sequence by sequence; what they point to lies in the packed arrays.

    Those of a sequence are what :func:`~.descriptors.describe` gives for it alone, but for the addresses.
    """
    found = []
    for sequence in sequences:
        queries, keys = (stop - start for start, stop in (sequence.queries, sequence.keys))
        if queries and keys:
            inner = replace(shape, queries=queries, keys=keys)
            places = {name: _moved(buffer, name, sequence) for name, buffer in buffers.items()}
            found += describe(config, inner, program, program_address, places, scale, mask=sequence.mask)
    return found


def _moved(buffer: Buffer | Keys, name: str, sequence: PackedSequence) -> Buffer:
    """Where a sequence's rows of an array lie."""
    assert isinstance(buffer, Buffer)
    first, _ = sequence.keys if name in "kv" else sequence.queries
    return replace(buffer, address=buffer.place(0, 0, 0, first))

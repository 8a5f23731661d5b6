"""Which keys a query sees, from the options of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..planning.masks import Mask
from ..planning.sequences import PackedSequence
from .argument_checks import is_integer, numbers_of, per_entry

__all__ = ["mask_of", "packed_sequences"]


def mask_of(options: Mapping[str, Any], batch: int, keys: int) -> Mask:
    """Check the options about masks, and put them together.

    Raises
    ------
    TypeError, ValueError
        If one is not what :func:`fusemax.attention` says.
    """
    left, right = _window(options)
    lengths, prefix, first = (options.get(name) for name in ("key_lengths", "prefix", "key_start"))
    return Mask(
        left=left,
        right=right,
        offsets=per_entry("query_offset", batch, options.get("query_offset", 0)),
        key_lengths=None if lengths is None else per_entry("key_lengths", batch, lengths, 0, keys),
        prefixes=(0,) if prefix is None else per_entry("prefix", batch, prefix, 0),
        key_starts=(0,) if first is None else per_entry("key_start", batch, first, 0, keys),
    )


def _window(options: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Keys in front of a query's own place and behind it that it sees; None for all."""
    left = right = None
    window = options.get("window")
    if window is not None:
        if not isinstance(window, (tuple, list)) or len(window) != 2:
            raise TypeError(f"window must be a pair (left, right) or None, not {window!r}")
        for side in window:
            if not is_integer(side):
                raise TypeError(f"window must be two integers, not {window!r}")
            if side < -1:
                raise ValueError(f"window must be two numbers of keys, -1 for all, not {window!r}")
        left, right = (None if side == -1 else int(side) for side in window)
    return left, 0 if options.get("causal", False) else right


def packed_sequences(
    cu_seqlens_q: object, cu_seqlens_k: object, queries: int, keys: int, options: Mapping[str, Any]
) -> list[PackedSequence]:
    """Check the places of packed sequences; a sequence's last query stands at its last key.

    Raises
    ------
    TypeError, ValueError
        If they, or the options about masks, are not what :func:`fusemax.attention_varlen` says.
    """
    edges = [
        _edges(name, given, rows)
        for name, given, rows in (
            ("cu_seqlens_q", cu_seqlens_q, queries),
            ("cu_seqlens_k", cu_seqlens_k, keys),
        )
    ]
    if len(edges[0]) != len(edges[1]):
        raise ValueError(
            f"cu_seqlens_q and cu_seqlens_k must be of as many sequences, not of {len(edges[0]) - 1} and {len(edges[1]) - 1}"
        )
    left, right = _window(options)
    found = []
    for q, k in zip(*(pairwise(each) for each in edges), strict=True):
        offset = (k[1] - k[0]) - (q[1] - q[0])
        found.append(PackedSequence(q, k, Mask(left=left, right=right, offsets=(offset,))))
    return found


def _edges(name: str, given: Any, rows: int) -> Sequence[int]:
    numbers = numbers_of(given, kinds="iu")
    if numbers is None:
        raise TypeError(f"{name} must be integers, not {given!r}")
    if numbers.ndim != 1 or not numbers.size:
        raise ValueError(f"{name} must be of shape (sequences + 1,), not {numbers.shape}")
    edges: list[int] = numbers.tolist()
    if edges[0] != 0 or np.any(np.diff(np.asarray(edges)) < 0) or edges[-1] > rows:
        raise ValueError(
            f"{name} must begin with 0, ascend, and end with at most {rows}, the rows that there are, not be {edges}"
        )
    return edges

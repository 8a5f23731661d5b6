"""What a call leaves in memory: output rows, with their states if they were asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows"]


@dataclass(frozen=True)
class Rows:
    """Output of a call.

    Members
    -------
    out
        Bits, (batch, query heads, queries, F): uint16 of bfloat16 or uint32 of float32.
    reference, denominator
        RM as int32 and RD as float32, (batch, query heads, queries), if the call asked for states; RD is 0 for a query that
        has seen no key.
    """

    out: NDArray[np.uint16 | np.uint32]
    reference: NDArray[np.int32] | None = None
    denominator: NDArray[np.float32] | None = None

    @classmethod
    def unseen(cls, rows: tuple[int, ...], f: int, *, float32: bool, states: bool) -> Self:
        """Rows (batch, query heads, queries) of a call in which no query sees a key."""
        out = np.zeros((*rows, f), np.uint32 if float32 else np.uint16)
        return cls(out, np.zeros(rows, np.int32), np.zeros(rows, np.float32)) if states else cls(out)

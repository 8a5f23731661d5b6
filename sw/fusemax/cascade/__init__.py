"""Cascades of Einsums: their text, what they compute, and how often they pass over a rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .cascade import Cascade
from .catalog import CASCADES, cascade_named
from .einsum import Einsum
from .errors import CascadeError, ReachError

if TYPE_CHECKING:
    from .interpreter import interpret
    from .passes import count_passes

__all__ = [
    "ATTENTION_1PASS",
    "CASCADES",
    "Cascade",
    "CascadeError",
    "Einsum",
    "ReachError",
    "cascade_named",
    "count_passes",
    "interpret",
]

#: The cascade that the array was made for.
ATTENTION_1PASS: Cascade = CASCADES["attention_1pass"]


def __getattr__(name: str) -> Any:
    # What compiling does not need is imported when it is asked for.
    if name == "interpret":
        from .interpreter import interpret

        return interpret
    if name == "count_passes":
        from .passes import count_passes

        return count_passes
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

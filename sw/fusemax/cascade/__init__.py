"""Cascades of Einsums: their text, what they compute, and how the array runs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .array import ArrayProgram, Dependence, Operation, Step, Unit
from .cascade import Cascade
from .einsum import Einsum
from .errors import CascadeError, ReachError
from .files import CASCADES, cascade_named

if TYPE_CHECKING:
    from .interpreter import interpret
    from .passes import count_passes

__all__ = [
    "ATTENTION_1PASS",
    "CASCADES",
    "ArrayProgram",
    "Cascade",
    "CascadeError",
    "Dependence",
    "Einsum",
    "Operation",
    "ReachError",
    "Step",
    "Unit",
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

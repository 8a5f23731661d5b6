"""Cascades of Einsums and their binding to the machine."""

from __future__ import annotations

from .attention import ATTENTION_1PASS
from .cascade import Cascade, Dependence, Operation, Step, Unit
from .einsum import Einsum, TensorReference

__all__ = [
    "ATTENTION_1PASS",
    "CASCADES",
    "Cascade",
    "Dependence",
    "Einsum",
    "Operation",
    "Step",
    "TensorReference",
    "Unit",
    "cascade_named",
]

CASCADES: dict[str, Cascade] = {cascade.name: cascade for cascade in (ATTENTION_1PASS,)}


def cascade_named(cascade: str | Cascade) -> Cascade:
    """``cascade`` itself, or the shipped one of that name.

    Raises
    ------
    TypeError
        If ``cascade`` is neither a :class:`Cascade` nor a string.
    ValueError
        If there is no cascade of that name.
    """
    if isinstance(cascade, Cascade):
        return cascade
    if not isinstance(cascade, str):
        raise TypeError(f"cascade must be a Cascade or a name, not {cascade!r}")
    if cascade not in CASCADES:
        raise ValueError(f"cascade must be one of {', '.join(CASCADES)} or a Cascade, not {cascade!r}")
    return CASCADES[cascade]

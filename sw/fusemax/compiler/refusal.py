"""The error that says why the array cannot run a cascade."""

from __future__ import annotations

from ..cascade.cascade import Cascade
from ..cascade.errors import Position, ReachError

__all__ = ["refusal"]


def refusal(cascade: Cascade, reason: str, at: Position | None) -> ReachError:
    """Make the error that names the cascade, the place and the reason."""
    return ReachError(f"the array cannot run this: {reason}", at, cascade.name)

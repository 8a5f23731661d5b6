"""How deep text may be nested: what reads it, and what works on it later, goes down a level by a call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import CascadeError, Position

__all__ = ["DEEPEST", "Depth"]

#: Nobody writes more, and Python's stack holds it with room for who calls.
DEEPEST = 40


class Depth:
    """Counts levels on the way down."""

    def __init__(self) -> None:
        self._levels = 0

    @contextmanager
    def level(self, what: str, at: Position | None) -> Iterator[None]:
        """Be one level deeper.

        Raises
        ------
        CascadeError
            If that is too deep; ``what`` is nested.
        """
        if self._levels == DEEPEST:
            raise CascadeError(f"expected at most {DEEPEST} {what} within each other", at)
        self._levels += 1
        try:
            yield
        finally:
            self._levels -= 1

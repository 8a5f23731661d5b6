"""What can be wrong with the text of a cascade."""

from __future__ import annotations

from typing import NamedTuple

from ..errors import FusemaxError

__all__ = ["CascadeError", "Position", "ReachError"]


class Position(NamedTuple):
    """Where something is written; both count from 1."""

    line: int
    column: int


class CascadeError(FusemaxError, ValueError):
    """Text that is not a cascade, or a cascade that has no meaning.

    Members
    -------
    name : str
        File or name of the cascade.
    at : Position or None
        Where; none if no single place is wrong.
    """

    def __init__(self, message: str, at: Position | None = None, name: str = "") -> None:
        place = [name] if name else []
        if at is not None:
            place += [f"line {at.line}", f"column {at.column}"]
        super().__init__(f"{', '.join(place)}: {message}" if place else message)
        self.message = message
        self.at = at
        self.name = name

    def within(self, name: str) -> CascadeError:
        """The same error, of the file ``name``."""
        return type(self)(self.message, self.at, name)


class ReachError(CascadeError):
    """A cascade that the array cannot run; the line is the first one that it cannot."""

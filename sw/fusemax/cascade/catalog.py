"""Cascades by name (the shipped ones) and by path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from os import PathLike
from pathlib import Path

from .cascade import Cascade
from .reader import parse, read

__all__ = ["CASCADES", "cascade_named"]

DIRECTORY = Path(__file__).parent / "library"


class Library(Mapping[str, Cascade]):
    """The shipped cascades, each read when it is asked for."""

    def __getitem__(self, name: str) -> Cascade:
        if name not in names():
            raise KeyError(name)
        return shipped(name)

    def __iter__(self) -> Iterator[str]:
        return iter(names())

    def __len__(self) -> int:
        return len(names())

    def __repr__(self) -> str:
        return f"<cascades {', '.join(self)}>"


@cache
def names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in DIRECTORY.glob("*.yaml")))


@cache
def shipped(name: str) -> Cascade:
    # The file's path stays out of messages: they name the cascade.
    return parse((DIRECTORY / f"{name}.yaml").read_text(encoding="utf-8"), name)


#: The shipped cascades by name (docs/reference/cascades.md).
CASCADES = Library()


def cascade_named(cascade: str | PathLike[str] | Cascade) -> Cascade:
    """Find the shipped cascade of a name, or read the one in a file.

    Parameters
    ----------
    cascade
        A name, a path, or a cascade already. A string with a suffix or a directory in it is a path.

    Returns
    -------
    Cascade
        For a name the same object every time.

    Raises
    ------
    TypeError
        If ``cascade`` is none of the three.
    ValueError
        If there is no cascade of that name, or the file is none (:class:`fusemax.cascade.CascadeError`).
    OSError
        If the file cannot be read.
    """
    if isinstance(cascade, Cascade):
        return cascade
    if isinstance(cascade, PathLike):
        return read(cascade)
    if not isinstance(cascade, str):
        raise TypeError(f"cascade must be a cascade, a name or a path, not {cascade!r}")
    if cascade in CASCADES:
        return CASCADES[cascade]
    if Path(cascade).suffix or len(Path(cascade).parts) > 1:
        return read(cascade)
    raise ValueError(f"cascade must be the path of a file or one of {', '.join(CASCADES)}, not {cascade!r}")

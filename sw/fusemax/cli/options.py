"""What commands share beside the machine's options: the cascade that is named, and how they print."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..cascade import CASCADES, Cascade
from ..cascade.catalog import cascade_named

__all__ = ["begun_line", "between", "cascade_option", "positive", "table", "whole"]


def whole(least: int | None = None, most: int | None = None) -> Callable[[str], int]:
    """Return what reads a whole number, for argparse; ``most`` comes with ``least``."""
    rule = "must be a whole number" + ("" if least is None else f" of at least {least}")
    if most is not None:
        rule = f"must be a whole number from {least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{rule}, not {text!r}") from None
        if (least is not None and number < least) or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"{rule}, not {text!r}")
        return number

    return read


def positive(text: str) -> float:
    """Read a finite number greater than zero, for argparse."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number greater than 0, not {text!r}")
    return number


def between(least: float, most: float) -> Callable[[str], float]:
    """Return what reads a number of a range, for argparse."""

    def read(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"must be a number from {least:g} to {most:g}, not {text!r}")
        return number

    return read


def cascade_option(name: str) -> Cascade:
    """Return the cascade that a user names: a shipped one, or one in a file.

    Raises
    ------
    ValueError
        If it is neither, or the file holds no cascade.
    OSError
        If the file cannot be read.
    """
    if name in CASCADES:
        return CASCADES[name]
    path = Path(name)
    if not (path.suffix or os.sep in name or path.is_file()):
        raise ValueError(f"the cascade must be a file or one of {', '.join(CASCADES)}, not {name!r}")
    return cascade_named(path)


@contextlib.contextmanager
def begun_line(text: str) -> Iterator[None]:
    """Print the beginning of a line of progress on stderr; what fails before its end begins on a line of its own."""
    print(text, end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print(file=sys.stderr, flush=True)
        raise


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text in columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
    return "\n".join(lines)

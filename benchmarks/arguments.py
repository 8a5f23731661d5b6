"""The command line that the scripts of this directory share: what they do, and the file of their results."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

__all__ = ["parser_of", "results_file"]


def parser_of(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser of no arguments whose help is a script's docstring, without the usage that argparse writes itself."""
    paragraphs = [part for part in (doc or "").strip().split("\n\n") if not part.lstrip().startswith("python benchmarks/")]
    return argparse.ArgumentParser(description="\n\n".join(paragraphs), formatter_class=argparse.RawDescriptionHelpFormatter)


def results_file(doc: str | None, default: Path, arguments: Sequence[str] | None = None) -> Path:
    """Read the command line of a script whose one argument is the file of its results, and return that file."""
    parser = parser_of(doc)
    parser.add_argument(
        "results", nargs="?", type=Path, default=default, metavar="RESULTS", help=f"default: benchmarks/results/{default.name}"
    )
    return parser.parse_args(arguments).results

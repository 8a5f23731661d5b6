"""``fusemax paper``: the evaluation of the FuseMax paper, computed, with ours beside it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..evaluation.paper import PUBLISHED, draw, paper_tables, records
from .extras import require
from .options import table

__all__ = ["add"]

#: Columns of a table on something that is not a terminal.
WIDTH = 160


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "paper",
        help="compute the FuseMax paper's tables, and ours",
        description="Latency, memory traffic, energy and utilisation of the five designs of the FuseMax paper and of ours, for "
        "BERT, TrXL, T5 and XLM, 1K to 1M tokens, attention and end to end, from the analytic model. Fails if a figure that "
        "the paper prints is not reproduced. docs/measurements/paper.md explains the tables. "
        "Extra for pictures and framed tables: cli.",
    )
    parser.add_argument("--json", action="store_true", help="print all results as JSON")
    parser.add_argument("-o", dest="directory", type=Path, metavar="DIR", help="draw the pictures into it")
    parser.set_defaults(function=paper)


def paper(options: argparse.Namespace) -> int:

    pictures = []
    if options.directory is not None:
        require("fusemax paper -o", ["cli"], unused=("rich",))
        options.directory.mkdir(parents=True, exist_ok=True)
        pictures = draw(options.directory)
    if options.json:
        print(json.dumps(records(), indent=1))
    else:
        for found in paper_tables():
            show(found.title, found.header, found.rows)
        for path in pictures:
            print(path)
    return 0 if all(figure.reproduced for figure in PUBLISHED) else 1


def show(title: str, header: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> None:
    """Print a table, with rich if it is there."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        print(f"{title}\n\n{table(header, rows)}\n")
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    framed = Table(title=title, title_justify="left", title_style="bold")
    for number, name in enumerate(header):
        framed.add_column(name, justify="left" if number == 0 else "right", no_wrap=True)
    for row in rows:
        framed.add_row(*row)
    console.print(framed)
    console.print()

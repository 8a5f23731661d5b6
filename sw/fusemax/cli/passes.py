"""``fusemax passes``: how often a cascade goes over the fibers of its ranks."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap

from ..cascade import CascadeError
from ..cascade.passes import count_passes, ranks_to_count
from .options import cascade_option

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "passes",
        help="count a cascade's passes",
        description="Count the passes of a cascade over the fibers of its ranks, with the Einsums that force each pass and "
        "what has to be kept between passes (docs/reference/cascades.md).",
    )
    parser.add_argument("cascade", metavar="FILE", help="a file, or the name of a shipped cascade")
    parser.add_argument(
        "--rank", action="append", metavar="RANK", help="this rank; may be repeated; default: all ranks of tensors"
    )
    parser.add_argument(
        "--same",
        action="append",
        default=[],
        type=renaming,
        metavar="P=M",
        help="count the fibers of P for M too, as of one sequence; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print as JSON")
    parser.set_defaults(function=passes)


def renaming(text: str) -> tuple[str, str]:
    """``P=M``, for argparse."""
    name, equals, rank = text.partition("=")
    if not (name and equals and rank):
        raise argparse.ArgumentTypeError(f"must be two ranks as in P=M, not {text!r}")
    return name, rank


def passes(options: argparse.Namespace) -> int:

    cascade = cascade_option(options.cascade)
    for rank, other in options.same:
        count_passes(cascade, other, {rank: other})
    ranks: list[str] = options.rank or list(ranks_to_count(cascade))
    found = []
    for rank in ranks:
        try:
            found.append(count_passes(cascade, rank, dict(options.same)))
        except CascadeError as error:
            # One that was not asked for does not hide the others.
            if options.rank:
                raise
            print(f"without {rank}: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps([counted.to_dict() for counted in found], indent=2))
        return 0
    for counted in found:
        number = "1 pass" if counted.passes == 1 else f"{counted.passes} passes"
        each = ", ".join(f"{tensor} {count}" for tensor, count in counted.per_input.items())
        deferred = f"; {counted.passes_deferred_division} with deferred division"
        print(f"{counted.rank}: {number}{f' ({each})' if each else ''}{deferred}")
        for barrier in counted.chain:
            print(textwrap.fill(str(barrier), 118, initial_indent="  ", subsequent_indent="    "))
        if counted.footprint:
            print(f"  kept or computed again, O({counted.rank}) each: {', '.join(counted.footprint)}")
    return 0

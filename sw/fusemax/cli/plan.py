"""``fusemax plan``: which lines of a cascade are the host's and which are sweeps of the array."""

from __future__ import annotations

import argparse

from ..plan.partition import partition
from .options import cascade_option

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan",
        help="cut a cascade into host steps and sweeps",
        description="Print the steps by which fusemax.run computes a cascade: Einsums of the host, and sweeps of the array.",
    )
    parser.add_argument("cascade", metavar="FILE", help="a file, or the name of a shipped cascade")
    parser.set_defaults(function=plan)


def plan(options: argparse.Namespace) -> int:
    print(partition(cascade_option(options.cascade)))
    return 0

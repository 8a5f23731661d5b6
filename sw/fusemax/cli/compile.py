"""``fusemax compile``: schedule a cascade and write its program."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path

from ..cascade import Cascade, ReachError
from ..compiler.feeding import LOG2_E, Feeding
from ..compiler.mapper import map_cascade
from ..compiler.program import Program
from ..plan.partition import partition
from .machine import add_machine, machine
from .options import cascade_option, positive, whole
from .program_files import program_figures, write_program

__all__ = ["add"]

#: More tiles than this are no picture any more.
MOST_TILES = 1000


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compile",
        help="write a program",
        description="Map a cascade to the machine and schedule it for head dims; print which part evaluates which Einsum; "
        "write the program, its listing, its figures and a picture of the schedule (extra cli).",
    )
    parser.add_argument(
        "cascade",
        nargs="?",
        default="attention_1pass",
        metavar="FILE",
        help="a file, or the name of a shipped cascade; default: attention_1pass",
    )
    add_machine(parser, "base")
    parser.add_argument("--head-dim", type=whole(), default=64, metavar="E", help="head dim of queries and keys; default: 64")
    parser.add_argument("--value-dim", type=whole(), metavar="F", help="head dim of values; default: that of the keys")
    parser.add_argument(
        "--score-bound",
        type=positive,
        metavar="X",
        help="largest |score|, for weights that are a function of it with a range; default: the function's",
    )
    parser.add_argument(
        "-o", dest="directory", type=Path, default=Path("build/program"), metavar="DIR", help="default: build/program"
    )
    parser.add_argument("--tiles", type=tile_count, default=5, metavar="N", help="tiles in the picture; default: 5")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.set_defaults(function=compile_)


def tile_count(text: str) -> int:
    """Read a number of tiles that a picture can show, for argparse."""
    if not text.isdecimal() or not 1 <= int(text) <= MOST_TILES:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1 and at most {MOST_TILES}, not {text!r}")
    return int(text)


def compile_(options: argparse.Namespace) -> int:
    import fusemax

    cascade = cascade_option(options.cascade)
    value_dim: int = options.head_dim if options.value_dim is None else options.value_dim
    try:
        program = fusemax.compile(
            cascade, head_dim=options.head_dim, value_dim=value_dim, config=machine(options), score_bound=options.score_bound
        )
    except ReachError as error:
        raise _with_plan(error, cascade, options.cascade) from None
    written = write_program(program, cascade.name, options.directory, options.tiles)
    figures = program_figures(program, cascade.name)
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(map_cascade(cascade))
        print()
        for line in _around(program):
            print(line)
        print(f"{program.ii} slots a tile, {figures['stages']} stages, utilisation at most {figures['peak_utilisation']:.4f}")
        for path in written:
            print(path)
    return 0


def _with_plan(error: ReachError, cascade: Cascade, named: str) -> ReachError:
    """The error; of a cascade that is several sweeps, with where to see them."""
    try:
        partition(cascade)
    except ReachError:
        return error
    return ReachError(f"{error.message}. It is several steps: see fusemax plan {named}", error.at, error.name)


def _around(program: Program) -> Iterator[str]:
    """What the machine needs and the host does, as far as it is not what softmax attention is without a word."""
    feeding, usual = program.feeding, Feeding()
    if program.needs:
        yield f"needs {', '.join(program.needs)}"
    # In the order of doing: what is added is multiplied too.
    if feeding.score_bias:
        yield f"the host adds {feeding.score_bias:g} to scores, by two elements of queries and keys"
    if feeding.score_factor != usual.score_factor:
        times = feeding.score_factor / LOG2_E
        short = math.isclose(times, float(f"{times:g}"))
        yield f"the host multiplies scores by {feeding.score_factor:.6g}" + (f" = {times:g}·log2(e)" if short else "")
    if feeding.score_bound is not None:
        yield f"the largest score may be {feeding.score_bound:g}"
    if feeding.raw:
        yield f"results are not divided; the host multiplies them by {feeding.result_factor:.6g}"
    if feeding.score_columns:
        yield f"{feeding.score_columns} columns in front of the values' are slices of the sum of weights times scores"

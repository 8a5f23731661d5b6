"""``fusemax compile``: schedule a cascade and write its program."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ..errors import MissingExtraError
from .options import add_config

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compile",
        help="write a program",
        description="Schedule a cascade for a configuration and head dims; write the program, its listing and a picture of "
        "the schedule (extra cli).",
    )
    add_config(parser, "base")
    parser.add_argument(
        "--cascade",
        default="attention_1pass",
        metavar="FILE",
        help="a file, or the name of a shipped cascade; default: attention_1pass",
    )
    parser.add_argument("--head-dim", type=int, default=64, metavar="E", help="head dim of queries and keys; default: 64")
    parser.add_argument("--value-dim", type=int, metavar="F", help="head dim of values; default: that of the keys")
    parser.add_argument(
        "-o", dest="directory", type=Path, default=Path("build/program"), metavar="DIR", help="default: build/program"
    )
    parser.add_argument("--tiles", type=tile_count, default=5, metavar="N", help="tiles in the picture; default: 5")
    parser.add_argument("--json", action="store_true", help="print figures as JSON")
    parser.set_defaults(function=compile_)


def tile_count(text: str) -> int:
    """A number of tiles, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of at least 1, not {text!r}")
    return int(text)


def compile_(options: argparse.Namespace) -> int:
    import fusemax

    value_dim: int = options.head_dim if options.value_dim is None else options.value_dim
    program = fusemax.compile(options.cascade, head_dim=options.head_dim, value_dim=value_dim, config=options.config)
    directory: Path = options.directory
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "program.bin").write_bytes(program.to_bytes())
    (directory / "listing.txt").write_text(program.listing(), encoding="utf-8")
    try:
        program.schedule.plot(directory / "schedule.png", options.tiles)
    except MissingExtraError as error:
        print(f"without schedule.png: {error}", file=sys.stderr)
    figures = {
        "cascade": fusemax.cascade.cascade_named(options.cascade).name,
        "config": options.config.name,
        "head_dim": options.head_dim,
        "value_dim": value_dim,
        "initiation_interval": program.ii,
        "stages": program.schedule.stages,
        "peak_utilisation": (options.head_dim + value_dim) / program.ii,
    }
    if options.json:
        print(json.dumps(figures, indent=2))
    else:
        print(f"{program.ii} slots a tile, {figures['stages']} stages, utilisation at most {figures['peak_utilisation']:.4f}")
        for name in ("program.bin", "listing.txt", "schedule.png"):
            if (directory / name).exists():
                print(directory / name)
    return 0

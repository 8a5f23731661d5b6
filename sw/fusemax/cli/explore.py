"""``fusemax explore``: which machine for a workload, cycles against area."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ..evaluation.bench import Case, Results
from ..evaluation.explore import AREA_TABLE, AreaTable, Point, Workload, design_points, records, sweep, unsaved
from ..evaluation.explore.picture import draw
from ..planning.memory_map import Shape
from .extras import require
from .options import table, whole

__all__ = ["add"]

DEFAULT_SHAPE = "8x256x256x64x64"
SIZES = (4, 8, 16, 32)
QUERY_TILES = (1, 2, 4, 8)
BUS_BITS = (64, 128, 256)


def numbers(text: str) -> tuple[int, ...]:
    """``4,8,16``, for argparse."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers as in 4,8,16, not {text!r}") from None


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explore",
        help="sweep configurations for a workload",
        description="Cycles and area of every combination of array size, bank size and bus width, and the Pareto front "
        "(docs/measurements/explore.md). Cycles are the cycle model's, which are the Verilog's; area is the sum of the parts "
        "that make area "
        "has measured. Runs on Dask, one point a task; every point is saved as soon as it is done, and points that are there "
        "and still hold are not done again. Extra: explore; cli for the picture.",
    )
    parser.add_argument(
        "--shape",
        action="append",
        metavar="HxPxMxExF",
        help=f"heads, queries, keys and head dims; repeated for calls one after the other; default: {DEFAULT_SHAPE}",
    )
    for name, default, what in (
        ("rows", SIZES, "rows of the array: keys of a tile"),
        ("columns", SIZES, "columns of the array, and lanes: queries of a tile"),
        ("query-tiles", QUERY_TILES, "query tiles that the banks and lanes hold at these head dims"),
        ("bus", BUS_BITS, "bits of the bus"),
    ):
        chosen = ",".join(map(str, default))
        parser.add_argument(f"--{name}", type=numbers, default=default, metavar="N,N", help=f"{what}; default: {chosen}")
    parser.add_argument("--latency", type=whole(1), default=60, metavar="CYCLES", help="read latency; default: 60")
    parser.add_argument(
        "--beat-interval", type=whole(1), default=1, metavar="CYCLES", help="one bus word in so many cycles; default: 1"
    )
    parser.add_argument("--area", type=Path, metavar="FILE", help="areas of the parts; default: those of the package")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("build/explore.json"),
        metavar="FILE",
        help="where points are saved; default: build/explore.json",
    )
    add_cluster(parser)
    parser.add_argument("-o", dest="directory", type=Path, metavar="DIR", help="draw the picture into it")
    parser.add_argument("--json", action="store_true", help="print all points as JSON")
    parser.set_defaults(function=explore)


def add_cluster(parser: argparse.ArgumentParser) -> None:
    """Add ``--scheduler`` and ``--workers``."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--scheduler", metavar="ADDRESS", help="a running Dask scheduler; default: a cluster on this machine")
    where.add_argument(
        "--workers", type=whole(1), metavar="N", help="processes of the cluster on this machine; default: all cores"
    )


def explore(options: argparse.Namespace) -> int:

    names = options.shape or [DEFAULT_SHAPE]
    cases = [Case.from_shape(name) for name in names]
    workload = Workload(
        tuple(Shape(heads=c.heads, queries=c.queries, keys=c.keys, e=c.e, f=c.f) for c in cases),
        latency_cycles=options.latency,
        beat_interval_cycles=options.beat_interval,
    )
    areas = AreaTable.read(options.area or AREA_TABLE)
    points = design_points(workload, options.rows, options.columns, options.query_tiles, options.bus)
    for point in points:
        areas.parts(point.config)  # Found now rather than after the sweep.

    results = Results(options.results)
    extras = ["explore"] * bool(unsaved(points, results)) + ["cli"] * (options.directory is not None)
    require("fusemax explore", extras, unused=("rich",))
    results.check_writable()

    def told(count: int, point: Point, row: dict[str, Any]) -> None:
        print(f"{count} of {len(points)}: {point}: {row['cycles']} cycles", file=sys.stderr, flush=True)

    rows = sweep(points, results, scheduler=options.scheduler, workers=options.workers, told=told)
    found = records(points, rows, areas)
    pictures = []
    if options.directory is not None:
        options.directory.mkdir(parents=True, exist_ok=True)
        pictures.append(options.directory / "explore.png")
        draw(found, f"{', '.join(names)}, latency {options.latency}", pictures[0])
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    chosen = sorted((record for record in found if record["front"]), key=lambda record: record["area"])
    print(f"{len(chosen)} of {len(found)} points are on the front")
    print(front_table(chosen))
    for path in pictures:
        print(path)
    return 0


COLUMNS = {
    "rows": "rows",
    "columns": "columns",
    "query_tiles": "query tiles",
    "bus_bits": "bus",
    "contexts": "contexts",
    "cycles": "cycles",
    "utilisation": "utilisation",
    "area": "area",
    "lut": "LUT",
    "dsp": "DSP",
    "ram_18k": "RAM 18K",
    "ram_16x4": "RAM 16x4",
}


def front_table(chosen: list[dict[str, Any]]) -> str:
    """The table that the command prints."""
    return table(tuple(COLUMNS.values()), [[f"{record[name]}" for name in COLUMNS] for record in chosen])

"""``fusemax bench``: cycles and utilisation of many shapes."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..evaluation.bench import GROUPS, RIVALS, Case, Results, cases
from ..spec import CONFIGS
from .extras import require
from .machine import add_machine, machine
from .options import begun_line, positive, table, whole

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        help="measure cycles and utilisation",
        description="Measure shapes on the emitted Verilog, from the doorbell to the interrupt, compare the results with the "
        "bit-exact model, and model what would take too long. Every row is saved as soon as it is measured; rows that are "
        "there and still hold are not measured again. Fails if a row with a target is below it. Extra: sim.",
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--group", action="append", choices=tuple(GROUPS), help="only this group of shapes; may be repeated; default: all"
    )
    chosen.add_argument(
        "--shape", action="append", metavar="HxPxMxExF", help="instead: heads, queries, keys and head dims; may be repeated"
    )
    add_machine(parser, None, shown="base; with --shape only")
    parser.add_argument("--latency", type=whole(1), metavar="CYCLES", help="read latency for --shape; default: 60")
    parser.add_argument(
        "--beat-interval", type=whole(1), metavar="CYCLES", help="for --shape: one bus word in so many cycles; default: 1"
    )
    parser.add_argument("--modelled", action="store_true", help="--shape in the cycle model")
    parser.add_argument("--longest", type=whole(1), metavar="CYCLES", help="leave out simulations that take longer")
    parser.add_argument(
        "--timeout", type=positive, default=1800, metavar="SECONDS", help="longest time of a row; default: 1800"
    )
    parser.add_argument(
        "-o",
        dest="file",
        type=Path,
        default=Path("build/bench.json"),
        metavar="FILE",
        help="results; default: build/bench.json",
    )
    parser.add_argument("--json", action="store_true", help="print rows as JSON")
    parser.set_defaults(function=bench)


def bench(options: argparse.Namespace) -> int:
    asked = options.config or options.changes or options.name
    if asked:
        options.config = options.config or CONFIGS["base"]
    fields = {
        "config": machine(options) if asked else None,
        "latency_cycles": options.latency,
        "beat_interval_cycles": options.beat_interval,
        "modelled": options.modelled or None,
    }
    fields = {name: value for name, value in fields.items() if value is not None}
    if options.shape:
        chosen = [Case.from_shape(shape, **fields) for shape in options.shape]
    elif fields:
        raise ValueError("--config, --set, --name, --latency, --beat-interval and --modelled must come with --shape")
    else:
        chosen = cases(tuple(options.group or GROUPS))
    if options.longest is not None:
        chosen = [case for case in chosen if case.modelled or case.expected_cycles <= options.longest]
    if not all(case.modelled for case in chosen):
        require("fusemax bench", ["sim"])
        from fusemax_sim.cache import writable_cache

        # Found now rather than after hours: what is built and what is measured can be written.
        writable_cache()
    results = Results(options.file)
    results.check_writable()
    rows = run(chosen, results, options.timeout)
    if not options.shape and not options.group and options.longest is None:
        results.keep([row["key"] for _, row, _ in rows])

    report = [
        {**{name: value for name, value in row.items() if name != "key"}, "target": case.target, "wrong": wrong}
        for case, row, wrong in rows
    ]
    if options.json:
        print(json.dumps({"rows": report, "rivals": [vars(rival) for rival in RIVALS]}, indent=2))
    else:
        print(rows_table(chosen, report))
        print("\nutilisation: P M (E + F) multiply-adds per head over rows x columns x cycles, doorbell to interrupt;")
        print(
            "limit: full tiles without any wait; FuseMax: the paper's closed form on as many rows, without latency and fill\n"
        )
        print(table(["rival", "utilisation", "how"], [[r.name, span(r.low, r.high), r.kind] for r in RIVALS]))
    for case, _, wrong in rows:
        for line in wrong:
            print(f"{case.machine.name} {case.shape}: {line}", file=sys.stderr)
    return 1 if any(wrong for _, _, wrong in rows) else 0


def run(chosen: Sequence[Case], results: Results, timeout: float) -> list[tuple[Case, dict[str, Any], list[str]]]:
    """Rows of the cases, from ``results`` or measured now, each with what is wrong with it."""
    from ..evaluation.bench.measure import Digests, check, measure, opened, simulated

    digests = Digests()
    rows = []
    for case in chosen:
        digest = "" if case.modelled else digests.of(case)
        row = None if case.modelled else results.get(case, digest)
        started = time.monotonic()
        if row is None:
            with begun_line(f"{case.machine.name} {case.shape}, latency {case.latency_cycles}"):
                if case.modelled:
                    row = results.put(case, digest, simulated(case))
                else:
                    with opened(case) as (device, model):
                        row = results.put(case, digest, measure(case, device, model, timeout))
            seconds = time.monotonic() - started
            print(f": {row['cycles']} cycles, {row['utilisation']:.4f}, {seconds:.1f} s", file=sys.stderr, flush=True)
        rows.append((case, row, check(case, row)))
    return rows


def span(low: float, high: float) -> str:
    return f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"


def rows_table(chosen: Sequence[Case], report: list[dict[str, Any]]) -> str:
    """The table that the command prints."""
    header = (
        *("config", "heads", "P", "M", "E", "F", "latency", "bytes/cycle", "how", "cycles"),
        *("utilisation", "target", "limit", "FuseMax", ""),
    )
    lines = []
    for case, row in zip(chosen, report, strict=True):
        lines.append(
            [
                row["config"],
                *(f"{row[name]}" for name in ("heads", "queries", "keys", "e", "f", "latency_cycles")),
                f"{case.bytes_per_cycle:g}",
                row["kind"],
                f"{row['cycles']}",
                f"{row['utilisation']:.4f}",
                "-" if row["target"] is None else f"{row['target']:.3f}",
                f"{row['limit']:.4f}",
                f"{row['paper']:.4f}",
                "WRONG" if row["wrong"] else "ok",
            ]
        )
    return table(header, lines)

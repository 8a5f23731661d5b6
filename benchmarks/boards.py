"""What fits which board: area, clock and build time of the systems in the table of docs/measurements/boards.md.

Writes benchmarks/results/boards.json and docs/measurements/boards.md.
Every row is saved as it is done, and done again only if its Verilog
or the tools have changed; what ``fusemax board build`` has left in build/board is taken.

    python benchmarks/boards.py [--row NAME]...
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusemax.board import BOARDS, FitError
from fusemax.spec import CONFIGS, Config
from fusemax_hw.boards.build import Project, write_project

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "boards.json"
PAGE = ROOT / "docs" / "measurements" / "boards.md"
WORK = ROOT / "build" / "board"
#: The page, with a place for the table.
TEXT = ROOT / "benchmarks" / "pages" / "boards.md"
#: Columns of the page's text.
PROSE_COLUMNS = 100

#: The board whose array sizes are compared: at most four.
PLACED_BOARD = "ulx3s_85f"
#: What belongs to a row; another value makes it another one.
KEY = ("board", "config", "memory_bytes", "clock_mhz", "baud", "verilog", "tools")
#: Largest machine of which a GW2A-18 has enough.
GOWIN = replace(
    CONFIGS["tiny"],
    name="tang",
    rows=2,
    columns=2,
    max_e=32,
    max_f=32,
    query_tiles=1,
    contexts=2,
    bus_bits=32,
    outstanding_reads=2,
    outstanding_writes=2,
    score_bits=28,
)


@dataclass(frozen=True)
class Row:
    """A system, and whether it is placed too."""

    board: str
    config: Config
    placed: bool = False

    @property
    def name(self) -> str:
        return f"{self.board}-{self.config.name}"


ROWS = {
    row.name: row
    for row in (
        Row("ulx3s_85f", CONFIGS["tiny"], placed=True),
        Row("ulx3s_85f", replace(CONFIGS["tiny"], name="six", rows=6, columns=6), placed=True),
        Row("ulx3s_85f", CONFIGS["small"]),
        Row("arty_a7_100", CONFIGS["tiny"]),
        Row("tang_primer_20k", GOWIN),
    )
}


def belongs(report: dict[str, Any], project: Project) -> bool:
    """Whether a report is of this project."""
    return all(report.get(field) == project.report[field] for field in KEY)


def is_complete(report: dict[str, Any], row: Row) -> bool:
    return "used" in report and (not row.placed or "fmax_mhz" in report)


def measure(row: Row, known: dict[str, Any] | None) -> dict[str, Any]:
    """Report of a row: known, left by an earlier build, or made now."""
    directory = WORK / row.name
    project = write_project(row.board, row.config, directory)
    earlier = directory / "report.json"
    for report in (known, json.loads(earlier.read_text()) if earlier.is_file() else None):
        if report is not None and belongs(report, project) and is_complete(report, row):
            return report
    print(f"{row.name}: synthesis", file=sys.stderr, flush=True)
    try:
        project.synthesise()
        if row.placed:
            print(f"{row.name}: place and route", file=sys.stderr, flush=True)
            project.place()
            project.pack()
    except FitError as error:
        project.report["error"] = str(error)
    return project.report


HEADER = (
    "board",
    "array",
    "head dim",
    "memory KiB",
    "LUTs",
    "flip-flops",
    "multipliers",
    "RAM 18K",
    "clock MHz",
    "reached MHz",
    "peak GMAC/s",
    "synthesis s",
    "place and route s",
)


def line(report: dict[str, Any]) -> list[str]:
    """A row of the table."""
    config, used, available, seconds = (report[name] for name in ("config", "used", "available", "seconds"))
    shares = [f"{used[name]} ({used[name] / available[name]:.0%})" for name in used]
    return [
        BOARDS[report["board"]].title,
        f"{config['rows']} × {config['columns']}",
        f"{config['max_e']}",
        f"{report['memory_bytes'] >> 10}",
        *shares,
        f"{report['clock_mhz']:g}",
        f"{report['fmax_mhz']:.1f}" if "fmax_mhz" in report else "-",
        f"{report['peak_gmac_per_s']:.2f}",
        *(f"{seconds[name]}" if name in seconds else "-" for name in ("synthesis", "place and route")),
    ]


def sizes(results: dict[str, Any]) -> str:
    """What has come of each array size on the board with open tools, and the largest that meets its clock."""
    tried = [results[name] for name, row in ROWS.items() if row.board == PLACED_BOARD]

    def size(report: dict[str, Any]) -> str:
        return "{rows} × {columns}".format(**report["config"])

    def outcome(report: dict[str, Any]) -> str:
        if "fmax_mhz" in report:
            return f"reaches {report['fmax_mhz']:.1f} MHz of {report['clock_mhz']:g}"
        return "does not fit" if "error" in report else "was synthesised only"

    meeting = [report for report in tried if report.get("fmax_mhz", 0) >= report["clock_mhz"]]
    best = max(meeting, key=lambda report: report["peak_gmac_per_s"], default=None)
    largest = "none" if best is None else f"{size(best)}, {best['peak_gmac_per_s']:.2f} GMAC/s at its peak"
    text = (
        f"Array sizes on the {BOARDS[PLACED_BOARD].title}: {'; '.join(f'{size(each)} {outcome(each)}' for each in tried)}. "
        f"The largest that meets its clock is {largest}."
    )
    return textwrap.fill(text, PROSE_COLUMNS)


def page(results: dict[str, Any]) -> str:
    """docs/measurements/boards.md."""
    lines = [list(HEADER), ["---", *["---:"] * (len(HEADER) - 1)], *(line(results[name]) for name in ROWS)]
    tools = ", ".join(f"{name} {number}" for name, number in results[next(iter(ROWS))]["tools"].items())
    table = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
    return TEXT.read_text(encoding="utf-8").format(table=table, tools=tools, sizes=sizes(results))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--row", action="append", choices=tuple(ROWS), help="only this one; may be repeated")
    options = parser.parse_args(arguments)
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    for name in options.row or ROWS:
        results[name] = measure(ROWS[name], results.get(name))
        RESULTS.write_text(json.dumps({name: results[name] for name in ROWS if name in results}, indent=1) + "\n")
    if set(results) == set(ROWS):
        PAGE.write_text(page(results), encoding="utf-8")
    wrong = [f"{name}: {report['error']}" for name, report in results.items() if "error" in report]
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

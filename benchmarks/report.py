"""Page and pictures of the benchmark in docs/measurements: performance.md, waterfall.png, roofline.png, lengths.png.

    python benchmarks/report.py [RESULTS]

reads what ``fusemax bench -o RESULTS`` measured, and records one run for the waterfall.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pictures import intensity_of, plot_lengths, plot_roofline, plot_waterfall, roof

import fusemax
from fusemax.evaluation.bench import GROUPS, RIVALS, Case
from fusemax.evaluation.bench.measure import random_problem
from fusemax.spec import CONFIGS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "bench.json"
DOCS = ROOT / "docs" / "measurements"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "performance.md"

#: The run that the waterfall shows: two heads, so that it crosses from one to the other.
WATERFALL = Case(config="small", heads=2, queries=32, keys=32, e=16, f=16)

Row = Mapping[str, Any]


def rows_of(group: str, rows: Sequence[Row]) -> list[tuple[Case, Row]]:
    """Rows of a group's cases, in the group's order.

    Raises
    ------
    ValueError
        If a case has no row.
    """
    found = []
    for case in GROUPS[group]:
        parameters = case.parameters()
        matching = [row for row in rows if all(row[name] == value for name, value in parameters.items())]
        if not matching:
            raise ValueError(f"the results must have a row for {case.config} {case.shape}: run fusemax bench")
        found.append((case, matching[-1]))
    return found


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    rule = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def results_table(rows: Sequence[tuple[Case, Row]], *, target: bool = False) -> str:
    header = ["config", "heads", "P", "M", "E", "F", "latency", "bytes/cycle", "how", "cycles", "utilisation"]
    header += (["at least"] if target else []) + ["limit", "FuseMax's form"]
    lines = []
    for case, row in rows:
        shape = [str(value) for value in (case.heads, case.queries, case.keys, case.e, case.f, case.latency_cycles)]
        least = ["-" if case.target is None else f"{case.target:.3f}"] if target else []
        lines.append(
            [
                *(
                    case.config,
                    *shape,
                    f"{case.bytes_per_cycle:g}",
                    row["kind"],
                    f"{row['cycles']}",
                    f"**{row['utilisation']:.4f}**",
                ),
                *(*least, f"{row['limit']:.4f}", f"{row['paper']:.4f}"),
            ]
        )
    return markdown(header, lines)


def roofline_table(rows: Sequence[tuple[Case, Row]]) -> str:
    lines = []
    for case, row in rows:
        allowed = roof(case.machine, intensity_of(row), case.bytes_per_cycle, case.limit)
        stalls = sum(row[name] for name in ("stall_q", "stall_k", "stall_v"))
        lines.append(
            [
                f"{case.queries}",
                f"{case.bytes_per_cycle:g}",
                f"{intensity_of(row):.1f}",
                f"{allowed:.3f}",
                f"{row['utilisation']:.3f}",
                f"{stalls / row['cycles']:.3f}",
            ]
        )
    return markdown(
        ["queries", "bytes/cycle", "multiply-adds/byte", "roof", "utilisation", "share of cycles that wait"], lines, 0
    )


def record(case: Case, waveform: Path) -> None:
    """Run a case and write its waveform."""
    q, k, v = random_problem(case)
    with fusemax.open("rtl", case.config, trace=waveform, memory_bytes=1 << 20) as device:
        fusemax.attention(q, k, v, device=device, timeout=600)


def main() -> int:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    groups = {group: rows_of(group, rows) for group in GROUPS}

    with tempfile.TemporaryDirectory() as directory:
        waveform = Path(directory) / "run.fst"
        record(WATERFALL, waveform)
        machine = WATERFALL.machine
        traced = plot_waterfall(
            machine,
            waveform,
            DOCS / "waterfall.png",
            f"{WATERFALL.heads} heads, {WATERFALL.queries} queries × {WATERFALL.keys} keys, E = F = {WATERFALL.e}, "
            f"on {machine.name} ({machine.rows} × {machine.columns}): what passed the array's corner, from the waveform",
        )
    plot_roofline([row for _, row in groups["roofline"]], DOCS / "roofline.png")
    one_head = [row for group in ("lengths", "targets", "modelled") for _, row in groups[group]]
    square = [row for row in one_head if row["heads"] == 1 and row["queries"] == row["keys"] and row["e"] == row["f"] == 64]
    plot_lengths(square, DOCS / "lengths.png")

    long_runs = [row for row in rows if row["config"] == "base" and row["kind"] == "RTL" and row["cycles"] > 200_000]
    speeds = [row["kilocycles_per_second"] for row in long_runs]
    page = TEXT.read_text(encoding="utf-8").format(
        targets=results_table([*groups["targets"], groups["modelled"][0]], target=True),
        shapes=results_table(groups["shapes"]),
        latencies=results_table(groups["latencies"]),
        lengths=results_table(groups["lengths"]),
        modelled=results_table(groups["modelled"][1:]),
        roofline=roofline_table(groups["roofline"]),
        rivals=markdown(
            ["design", "utilisation", "how", "source"],
            [[r.name, f"{r.low:g}" if r.low == r.high else f"{r.low:g} to {r.high:g}", r.kind, r.source] for r in RIVALS],
        ),
        tiles=traced["tiles"],
        traced=traced["cycles"],
        beats=CONFIGS["base"].bus_bytes,
        slowest=min(speeds),
        fastest=max(speeds),
    )
    (DOCS / "performance.md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

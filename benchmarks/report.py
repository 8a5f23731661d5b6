"""Page and pictures of the benchmark: docs/performance.md, docs/waterfall.png, docs/roofline.png, docs/lengths.png.

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

import numpy as np
from pictures import intensity_of, plot_lengths, plot_roofline, plot_waterfall, roof

import fusemax
from fusemax.bench import GROUPS, RIVALS, Case
from fusemax.spec import CONFIGS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "bench.json"
DOCS = ROOT / "docs"

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
                *(case.config, *shape, f"{case.bytes_per_cycle:g}", row["kind"], f"{row['cycles']}", f"**{row['utilisation']:.4f}**"),
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
    return markdown(["queries", "bytes/cycle", "multiply-adds/byte", "roof", "utilisation", "share of cycles that wait"], lines, 0)


def record(case: Case, waveform: Path) -> None:
    """Run a case and write its waveform."""
    sizes = ((case.queries, case.e), (case.keys, case.e), (case.keys, case.f))
    q, k, v = (np.random.default_rng(seed).standard_normal((case.heads, *size), dtype=np.float32) for seed, size in enumerate(sizes))
    with fusemax.open("rtl", case.config, trace=waveform, memory_bytes=1 << 20) as device:
        fusemax.attention(q, k, v, device=device, timeout=600)


def main() -> int:
    results = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    groups = {group: rows_of(group, rows) for group in GROUPS}

    with tempfile.TemporaryDirectory() as directory:
        waveform = Path(directory) / "run.vcd"
        record(WATERFALL, waveform)
        machine = WATERFALL.machine
        traced = plot_waterfall(
            machine,
            waveform,
            DOCS / "waterfall.png",
            f"{WATERFALL.heads} heads, {WATERFALL.queries} queries × {WATERFALL.keys} keys, E = F = {WATERFALL.e}, on {machine.name} "
            f"({machine.rows} × {machine.columns}): what passed the array's corner, from the waveform",
        )
    plot_roofline([row for _, row in groups["roofline"]], DOCS / "roofline.png")
    one_head = [row for group in ("lengths", "targets", "modelled") for _, row in groups[group]]
    square = [row for row in one_head if row["heads"] == 1 and row["queries"] == row["keys"] and row["e"] == row["f"] == 64]
    plot_lengths(square, DOCS / "lengths.png")

    speeds = [row["kilocycles_per_second"] for row in rows if row.get("config") == "base" and row["kind"] == "RTL" and row["cycles"] > 200_000]
    page = TEXT.format(
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


TEXT = """# Performance

Written by `make bench`: `fusemax bench` measures, `benchmarks/report.py` writes this page and its pictures from
[its results](../benchmarks/results/bench.json). Area and clock: [area.md](area.md).

**FLOPs utilisation** is (P·M·E + P·M·F) multiply-adds per head, useful ones only, over rows · columns · cycles. Cycles are the device's own count from the write of
the doorbell to the interrupt: descriptor, program, first loads, last stores and the memory's latency are in it. Every row of kind RTL was measured on the emitted
Verilog in Verilator; its result was compared bit for bit with the model, and its cycles with a count that the testbench makes (2 more: from the write at the
port to the pin). Rows of kind model come from `fusemax.model.cycles`, which gives the RTL's counters to the cycle. "Limit" is what full tiles
without any wait would reach, (E + F) / (E + F + 2) less what tails leave empty. "FuseMax's form" is the paper's closed form with as many rows (below), which knows neither latency
nor fill. Latency is in cycles.

## Targets

{targets}

![Waterfall of a run](waterfall.png)

*A run of {tiles} tiles in {traced} cycles, read from the waveform: every operation at the array's corner, what the sequencer waited for, the bus. It waits
for the first tiles and at the end for the last results, and not between: the second head's tiles follow the first's, and its keys and values come while the first is
at work.*

## Against length, and others

![Utilisation against length](lengths.png)

{rivals}

Gemmini and ITA are left out: neither publication gives attention's own utilisation, or enough to derive it.

{lengths}

## Other shapes and machines

{shapes}

A query tile holds 16 queries of one head, so 1 query uses a sixteenth of the array; 77 keys fill 4.8 of 5 tiles.

## Memory latency

{latencies}

## Roofline

![Roofline](roofline.png)

One head, 1024 keys, E = F = 64, base. With up to 4 resident query tiles (8 at E = F = 64, by the formula of
`fusemax.schedule.residency`) keys and values are read once per group, so every query tile more lets a byte serve more multiply-adds. Points below the corner lie on the roof; what they
lack is the first fill and the last drain. Half or a quarter of the bandwidth costs what the roof says.

{roofline}

## Modelled

{modelled}

On the 256 × 256 array short heads do not fill the pipeline: 1024 × 1024 is 16 tiles.

## Simulation speed

Through the API, with memory model and checks, base runs at {slowest:.0f} to {fastest:.0f} thousand cycles a second on one core of the machine that wrote this page.

## Commands

```
make bench                                   # all of the above; goes on where an earlier call stopped
fusemax bench --group targets                # the first table; fails if a row is below its target
fusemax bench --shape 3x100x77x64x32 --config base --latency 100 --beat-interval 2
fusemax bench --shape 1x1048576x1048576x64x64 --config paper --modelled
fusemax bench --json
```
"""


if __name__ == "__main__":
    sys.exit(main())

"""Query tiles resident per group: forced from one to all that fit, the host's choice, and slower memories, on the Verilog.

Writes benchmarks/results/residency.json, and residency.md and residency.png in docs/measurements.
Every row is saved as it is measured; a
second call goes on where the first stopped, and does again what belongs to Verilog, programs or groups that have changed.

    python benchmarks/residency.py [RESULTS]
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

from arguments import results_file
from bounds import bounds, choice, group_sizes, least_query_tiles, modelled
from matplotlib.figure import Figure
from rows import Row, Rows, markdown

import fusemax.runtime.call
from fusemax.cli.options import table
from fusemax.evaluation.bench import Case
from fusemax.evaluation.bench.measure import Digests, measure, opened
from fusemax.planning.descriptors import describe
from fusemax.planning.residency import Residency
from fusemax.plotting import save_picture
from fusemax.spec import CONFIGS, Config

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "residency.json"
DOCS = ROOT / "docs" / "measurements"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "residency.md"

NAMES = ("1x512x512x64x64", "1x256x256x128x128", "1x256x256x128x64", "1x256x256x16x16")
SHAPES = tuple(Case.from_shape(name) for name in NAMES)
#: Cycles per bus word: the whole bandwidth, half, a quarter.
INTERVALS = (1, 2, 4)
BANDWIDTHS: dict[int, str] = dict(zip(INTERVALS, ("1", "1/2", "1/4"), strict=True))
#: Longer runs of forced groups on slow memories are left to the cycle model, which is equal wherever both were run.
LONGEST_SLOW_CYCLES = 150_000
#: The long latency, and the smaller group that is compared with the host's choice there.
LONG_LATENCY_CYCLES, SMALLER_GROUP = 250, 3
#: At the whole bandwidth the chosen groups may be slower than the best forced ones by this share.
CHOICE_TOLERANCE = 0.035
STALLS = ("stall_q", "stall_k", "stall_v")


@contextmanager
def forced(most_tiles: int) -> Iterator[None]:
    """Let the driver write descriptors with at most so many query tiles in a group."""
    with patch.object(fusemax.runtime.call, "describe", partial(describe, most_tiles=most_tiles)):
        yield


@dataclass(frozen=True)
class Run:
    """A case, and the group size that is forced; None if the host chooses."""

    case: Case
    forced: int | None = None

    @property
    def groups(self) -> Residency:
        return choice(self.case, self.forced)

    @property
    def name(self) -> str:
        case = self.case
        how = "chosen" if self.forced is None else f"P1={self.forced}"
        return f"{case.shape} interval={case.beat_interval_cycles} latency={case.latency_cycles} {how}"

    def measure(self) -> Row:
        with nullcontext() if self.forced is None else forced(self.forced), opened(self.case) as (device, model):
            row = measure(self.case, device, model)
        counts = modelled(self.case, self.forced)
        kept = ("cycles", "bytes_read", "bytes_written", *STALLS, "stall_output", "idle", "bits_as_model")
        groups = {"group_tiles": self.groups.group_tiles, "groups": self.groups.groups}
        return {**groups, **{name: row[name] for name in kept}, "model_cycles": counts.cycles}


def all_runs() -> list[Run]:
    runs = []
    for shape in SHAPES:
        for interval in INTERVALS:
            case = replace(shape, beat_interval_cycles=interval)
            chosen = choice(case).group_tiles
            for size in group_sizes(case):
                if size == chosen:
                    runs.append(Run(case))
                elif interval == 1 or modelled(case, size).cycles <= LONGEST_SLOW_CYCLES:
                    runs.append(Run(case, size))
    long = replace(SHAPES[0], latency_cycles=LONG_LATENCY_CYCLES)
    return [*runs, Run(long, SMALLER_GROUP), Run(long)]


def measured(path: Path) -> list[tuple[Run, Row]]:
    """All runs with their rows, from the file or made now."""
    rows, digests, runs = Rows(path), Digests(), all_runs()
    for number, run in enumerate(runs, 1):
        digest = hashlib.sha256(f"{digests.of(run.case)} {run.groups!r}".encode()).hexdigest()[:16]
        if rows.rows.get(run.name, {}).get("machine") != digest:
            rows.put(run.name, {"machine": digest, **run.measure()})
            print(f"{number} of {len(runs)}: {run.name}: {rows.rows[run.name]['cycles']} cycles", file=sys.stderr, flush=True)
    return [(run, rows.rows[run.name]) for run in runs]


def check(results: Sequence[tuple[Run, Row]]) -> list[str]:
    """What contradicts the formulas."""
    wrong = []
    for run, row in results:
        limits = bounds(run.case, run.groups, row["bytes_read"], row["bytes_written"])
        # With a latency as long as a pass the buffers' turnaround, which no bound here has in it, comes on top.
        most = limits.most if run.case.latency_cycles < LONG_LATENCY_CYCLES else math.inf
        if not limits.roofline <= row["cycles"] <= most:
            wrong.append(f"{run.name}: cycles must be from {limits.roofline} to {most}, not {row['cycles']}")
        if not row["bits_as_model"] or row["cycles"] != row["model_cycles"]:
            wrong.append(f"{run.name}: result and cycles must be the models'")
    for shape, price in prices(results).items():
        if price > CHOICE_TOLERANCE:
            wrong.append(f"{shape}: the choice must be at most {CHOICE_TOLERANCE:.1%} slower than the best, not {price:.1%}")
    return wrong


def prices(results: Sequence[tuple[Run, Row]]) -> dict[str, float]:
    """How much slower than the fastest groups the host's choice is, at the whole bandwidth, by shape."""
    found = {}
    for shape in SHAPES:
        rows = [(run.forced, row["cycles"]) for run, row in results if run.case == shape]
        (chosen,) = (cycles for size, cycles in rows if size is None)
        found[shape_text(shape)] = chosen / min(cycles for _, cycles in rows) - 1
    return found


# -- page ----------------------------------------------------------------------------------------------------------------


def shape_text(case: Case) -> str:
    return f"{case.queries} × {case.keys}, E = {case.e}, F = {case.f}"


def tiles_text(run: Run) -> str:
    size = str(run.groups.group_tiles)
    return f"**{size}**" if run.forced is None else size


def room_table() -> str:
    dims = ((16, 16), (64, 64), (128, 64), (128, 128))
    lines = []
    for config in CONFIGS.values():
        fits = [(e, f) for e, f in dims if e <= config.max_e and f <= config.max_f]
        lines.append([config.name, *(str(config.resident_query_tiles(*pair)) if pair in fits else "" for pair in dims)])
    return markdown(["", *(f"E = {e}, F = {f}" for e, f in dims)], lines)


FULL_HEADER = ("P × M", "least P1", "P1", "groups", "waits Q", "K", "V", "at least", "cycles", "at most", "over array")


def full_lines(results: Sequence[tuple[Run, Row]]) -> list[list[str]]:
    lines, shape = [], ""
    for run, row in results:
        if run.case in SHAPES:
            limits = bounds(run.case, run.groups, row["bytes_read"], row["bytes_written"])
            name = shape_text(run.case) if run.case.shape != shape else ""
            least = str(least_query_tiles(run.case)) if name else ""
            shape = run.case.shape
            counts = [row["groups"], *(row[stall] for stall in STALLS), limits.by_groups, row["cycles"], limits.most]
            over = f"{row['cycles'] / limits.array - 1:.1%}"
            lines.append([name, least, tiles_text(run), *map(str, counts), over])
    return lines


SLOW_HEADER = (
    *("P × M", "bandwidth", "least P1", "P1", "roofline", "cycles", "ratio", "excess", "by passes", "first fill", "last drain"),
    *("at most", "best other P1"),
)


def slow_lines(results: Sequence[tuple[Run, Row]]) -> list[list[str]]:
    lines, shape = [], ""
    for run, row in results:
        if run.forced is None and run.case.latency_cycles == SHAPES[0].latency_cycles:
            limits = bounds(run.case, run.groups, row["bytes_read"], row["bytes_written"])
            name = shape_text(run.case) if run.case.shape != shape else ""
            shape = run.case.shape
            others = [size for size in group_sizes(run.case) if size != run.groups.group_tiles]
            cycles, size = min((modelled(run.case, size).cycles, size) for size in others)
            excess = row["cycles"] - limits.roofline
            allowed = (limits.by_passes, limits.first_fill, limits.last_drain, limits.most)
            lines.append(
                [
                    *(name, BANDWIDTHS[run.case.beat_interval_cycles], str(least_query_tiles(run.case)), tiles_text(run)),
                    *(str(limits.roofline), str(row["cycles"]), f"{row['cycles'] / limits.roofline:.3f}"),
                    *map(str, (excess, *allowed)),
                    f"{size}: {cycles / row['cycles'] - 1:+.1%}",
                ]
            )
    return lines


def latency_table(results: Sequence[tuple[Run, Row]]) -> str:
    lines = []
    for run, row in results:
        if run.case.latency_cycles == LONG_LATENCY_CYCLES:
            limits = bounds(run.case, run.groups, row["bytes_read"], row["bytes_written"])
            waits = (str(row[name]) for name in STALLS)
            lines.append([tiles_text(run), *waits, str(row["cycles"]), f"{row['cycles'] / limits.array - 1:.1%}"])
    return markdown(["P1", "waits Q", "K", "V", "cycles", "over array"], lines)


def longer_table() -> str:
    """How the ratio to the roofline falls with the keys; from the cycle model."""
    lines = []
    for keys in (128, 256, 512, 1024, 4096):
        cells = [str(keys)]
        for interval in INTERVALS:
            case = replace(SHAPES[0], keys=keys, beat_interval_cycles=interval)
            counts = modelled(case)
            cells.append(f"{counts.cycles / bounds(case, choice(case), counts.bytes_read, counts.bytes_written).roofline:.3f}")
        lines.append(cells)
    return markdown(["keys", *(f"bandwidth {text}" for text in BANDWIDTHS.values())], lines)


def plot(results: Sequence[tuple[Run, Row]], path: Path) -> None:
    """Cycles over those of the array against P1: rooflines, measured, modelled."""
    figure = Figure(figsize=(11, 7.2), layout="constrained")
    rows = {(run.case, run.groups.group_tiles): (run, row) for run, row in results}
    for axes, shape in zip(figure.subplots(2, 2).flat, SHAPES, strict=True):
        sizes = group_sizes(shape)
        for interval, colour in zip(INTERVALS, ("#4477aa", "#ee6677", "#228833"), strict=True):
            case = replace(shape, beat_interval_cycles=interval)
            line, found = [], []
            for size in sizes:
                counts = modelled(case, size)
                limits = bounds(case, choice(case, size), counts.bytes_read, counts.bytes_written)
                line.append(limits.roofline / limits.array)
                found.append(counts.cycles / limits.array)
            axes.plot(sizes, line, color=colour, linewidth=1.2, label=f"roofline, bandwidth {BANDWIDTHS[interval]}")
            for size, value in zip(sizes, found, strict=True):
                filled = colour if (case, size) in rows else "white"
                axes.plot(size, value, marker="o", color=colour, markerfacecolor=filled, markersize=6, linestyle="none")
        chosen = choice(shape).group_tiles
        axes.axvspan(chosen - 0.3, chosen + 0.3, color="0.9", linewidth=0)
        axes.annotate("chosen", (chosen, 0.98), xycoords=("data", "axes fraction"), ha="center", va="top", fontsize=8)
        axes.set_yscale("log", base=2)
        axes.set_ylim(0.9, 10)
        axes.set_yticks((1, 2, 4, 8), ("1", "2", "4", "8"))
        axes.minorticks_off()
        axes.set_xticks(sizes)
        axes.set_xlim(0.5, sizes[-1] + 0.7)
        axes.set_title(shape_text(shape), fontsize=10)
        axes.set_xlabel("query tiles of a group (P1)")
        axes.set_ylabel("cycles / cycles of the array")
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    for name, face in (("measured on the Verilog", "0.3"), ("cycle model", "white")):
        handles += figure.axes[0].plot([], [], marker="o", color="0.3", markerfacecolor=face, linestyle="none")
        labels.append(name)
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9)
    save_picture(figure, path)


def page(results: Sequence[tuple[Run, Row]]) -> str:
    """docs/measurements/residency.md."""
    config: Config = SHAPES[0].machine
    return TEXT.read_text(encoding="utf-8").format(
        rooms=room_table(),
        full=markdown(FULL_HEADER, full_lines(results)),
        slow=markdown(SLOW_HEADER, slow_lines(results)),
        latency=latency_table(results),
        longer=longer_table(),
        config=config.name,
        runs=len(results),
        thousands=round(sum(row["cycles"] for _, row in results) / 1000),
        latency_cycles=SHAPES[0].latency_cycles,
        long_latency=LONG_LATENCY_CYCLES,
        bursts=config.outstanding_reads,
        price=f"{max(prices(results).values()):.1%}",
    )


def main() -> int:
    results = measured(results_file(__doc__, RESULTS))
    print(table(FULL_HEADER, full_lines(results)), table(SLOW_HEADER, slow_lines(results)), sep="\n\n")
    plot(results, DOCS / "residency.png")
    (DOCS / "residency.md").write_text(page(results), encoding="utf-8")
    wrong = check(results)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

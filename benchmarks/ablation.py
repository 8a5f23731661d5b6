"""What overlap and co-issue are worth: one array, three programs, cycles measured on the Verilog.

Writes benchmarks/results/ablation.json, and ablation.md and ablation.png in docs/measurements.
Every row is saved as it is measured; a second call goes on where the first stopped,
and does again what belongs to Verilog or programs that have changed.

    python benchmarks/ablation.py [RESULTS]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from arguments import results_file
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rows import Row, Rows, markdown

import fusemax
from fusemax.cli.options import table
from fusemax.compiler.micro import Operation
from fusemax.compiler.modulo_schedule import Binding
from fusemax.compiler.program import Program
from fusemax.compiler.waterfall import COLOURS, MEANINGS
from fusemax.evaluation.bench import Case
from fusemax.evaluation.bench.measure import Digests, check, measure, opened
from fusemax.evaluation.paper import result
from fusemax.model.cycles import IdealMemory, cycles
from fusemax.planning.memory_map import Shape
from fusemax.plotting import save_picture

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "ablation.json"
DOCS = ROOT / "docs" / "measurements"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "ablation.md"

SHAPES = ("1x512x512x16x16", "8x128x128x32x32", "1x256x256x64x64", "8x64x64x64x64", "1x256x256x128x128")
CASES = tuple(Case.from_shape(shape) for shape in SHAPES)
#: What of two tiles is under way at the same time.
TITLES = {
    Binding.SERIAL: "serial:\none tile after\nthe other",
    Binding.OVERLAPPED: "overlapped:\ntwo tiles at\na time",
    Binding.CO_ISSUED: "co-issued:\nMAX beside\nanother QK",
}
#: Tiles that the picture shows, and its shape.
TILES, PICTURE = 4, Case.from_shape("1x64x64x16x16")
#: Models of the paper whose steps are compared with ours on as many rows, by head dim.
MODELS = {64: "BERT", 128: "XLM"}
STALLS = ("stall_q", "stall_k", "stall_v", "stall_output", "idle", "slots_empty")


@dataclass(frozen=True)
class Run:
    """A case and how its tiles share the array."""

    case: Case
    binding: Binding

    @property
    def name(self) -> str:
        return f"{self.case.config} {self.case.shape} {self.binding.value}"

    @property
    def program(self) -> Program:
        return fusemax.compile(head_dim=self.case.e, value_dim=self.case.f, config=self.case.machine, binding=self.binding)

    @property
    def model_cycles(self) -> int:
        """Cycles of the cycle model."""
        case = self.case
        shape = Shape(heads=case.heads, queries=case.queries, keys=case.keys, e=case.e, f=case.f)
        memory = IdealMemory(read_latency_cycles=case.latency_cycles, beat_interval_cycles=case.beat_interval_cycles)
        return cycles(self.program, shape, memory).cycles

    def measure(self) -> Row:
        with opened(self.case) as (device, model):
            row = measure(self.case, device, model, program=self.program)
        kept = ("kind", "cycles", "testbench_cycles", "utilisation", "bits_as_model", *STALLS)
        return {"ii": self.program.ii, **{name: row[name] for name in kept}, "model_cycles": self.model_cycles}


Results = dict[Case, dict[Binding, Row]]


def measured(path: Path) -> Results:
    """All cases' rows, from the file or made now."""
    rows, digests, found = Rows(path), Digests(), {}
    for case in CASES:
        found[case] = {}
        for binding in Binding:
            run = Run(case, binding)
            digest = digests.of(case, run.program)[:16]
            if rows.rows.get(run.name, {}).get("machine") != digest:
                rows.put(run.name, {"machine": digest, **run.measure()})
                print(f"{run.name}: {rows.rows[run.name]['cycles']} cycles", file=sys.stderr, flush=True)
            found[case][binding] = rows.rows[run.name]
    return found


def wrong(results: Results) -> list[str]:
    """What contradicts the models, or the point of it."""
    lines = []
    for case, rows in results.items():
        for binding, row in rows.items():
            found = check(case, row)
            if row["cycles"] != row["model_cycles"]:
                found.append(f"cycles must be the model's, {row['model_cycles']}, not {row['cycles']}")
            lines += [f"{case.shape} {binding.value}: {line}" for line in found]
        serial, overlapped, co_issued = (rows[binding]["cycles"] for binding in Binding)
        if not serial > overlapped > co_issued:
            lines.append(f"{case.shape}: each step must save cycles, not {serial}, {overlapped}, {co_issued}")
    return lines


# -- page ----------------------------------------------------------------------------------------------------------------

MEASURED_HEADER = (
    "heads × P × M, E = F",
    *(f"{what}, {binding.value}" for what in ("slots", "cycles") for binding in Binding),
    *("utilisation", "overlap", "co-issue", "both"),
)


def steps(serial: float, overlapped: float, co_issued: float) -> list[str]:
    return [f"{serial / overlapped:.3f} ×", f"{overlapped / co_issued:.3f} ×", f"{serial / co_issued:.3f} ×"]


def measured_lines(results: Results) -> list[list[str]]:
    lines = []
    for case, rows in results.items():
        name = f"{case.heads} × {case.queries} × {case.keys}, {case.e}"
        counts = [f"{rows[binding][what]}" for what in ("ii", "cycles") for binding in Binding]
        busy = " → ".join(f"{case.utilisation(rows[binding]['cycles']):.3f}" for binding in Binding)
        lines.append([name, *counts, busy, *steps(*(rows[binding]["cycles"] for binding in Binding))])
    return lines


LARGE_HEADER = ("E = F", *(f"slots, {b.value}" for b in Binding), "overlap", "co-issue", "+Architecture → +Binding", "→ ours")


def large_lines() -> list[list[str]]:
    """256 × 256: slots of our three programs, and the paper's steps on as many rows."""
    lines = []
    for dim, model in MODELS.items():
        slots = [fusemax.compile(head_dim=dim, config="paper", binding=binding).ii for binding in Binding]
        arch, bound, ours = (result(design, model, "64K").cost.cycles for design in ("arch", "binding", "ours"))
        lines.append([f"{dim}", *map(str, slots), *steps(*slots)[:2], f"{arch / bound:.3f} ×", f"{bound / ours:.3f} ×"])
    return lines


def plot(path: Path) -> None:
    """What the array issues with each of the programs, slot by slot."""
    figure = Figure(figsize=(11, 4.4), layout="constrained")
    axes = figure.subplots()
    end = TILES * Run(PICTURE, Binding.SERIAL).program.ii + 8
    for row, binding in enumerate(Binding):
        schedule = Run(PICTURE, binding).program.schedule
        for tile in range(end // schedule.ii + 2):
            for placed in schedule.placed:
                slot = tile * schedule.ii + placed.offset
                if placed.operation is Operation.MASK or slot >= end:
                    continue
                beside = placed.operation is Operation.MAX
                shade = 1.0 if tile % 2 == 0 else 0.55
                axes.broken_barh(
                    [(slot, 1)],
                    (row - 0.5 if beside else row - 0.3, 0.18 if beside else 0.6),
                    facecolors=COLOURS[placed.operation],
                    alpha=shade,
                    linewidth=0,
                )
    axes.set_yticks(range(len(Binding)), [TITLES[binding] for binding in Binding])
    axes.set_ylim(len(Binding) - 0.5, -0.6)
    axes.set_xlim(0, end)
    axes.set_xlabel("slots, one a cycle")
    machine = PICTURE.machine
    figure.suptitle(
        f"What a PE is told to do in every slot, by the three programs: {machine.name}, {machine.rows} × {machine.columns}, "
        f"E = F = {PICTURE.e}",
        fontsize=11,
    )
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    used = {placed.operation for placed in Run(PICTURE, Binding.SERIAL).program.schedule.placed}
    shown = [operation for operation in COLOURS if operation in used - {Operation.MASK}]
    figure.legend(
        handles=[
            *(
                Patch(color=COLOURS[operation], label=MEANINGS[operation] + " (above)" * (operation is Operation.MAX))
                for operation in shown
            ),
            Patch(facecolor="white", edgecolor="0.6", label="white: the PE waits"),
            Patch(color=COLOURS[Operation.QK], alpha=0.55, label="paler: every other tile"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
    )
    save_picture(figure, path)


def page(results: Results) -> str:
    """docs/measurements/ablation.md."""
    config = CASES[0].machine
    return TEXT.read_text(encoding="utf-8").format(
        measured=markdown(MEASURED_HEADER, measured_lines(results)),
        large=markdown(LARGE_HEADER, large_lines()),
        config=config.name,
        size=f"{config.rows} × {config.columns}",
        runs=sum(map(len, results.values())),
        thousands=round(sum(row["cycles"] for rows in results.values() for row in rows.values()) / 1000),
        latency=CASES[0].latency_cycles,
    )


def main() -> int:
    results = measured(results_file(__doc__, RESULTS))
    print(table(MEASURED_HEADER, measured_lines(results)), table(LARGE_HEADER, large_lines()), sep="\n\n")
    plot(DOCS / "ablation.png")
    (DOCS / "ablation.md").write_text(page(results), encoding="utf-8")
    lines = wrong(results)
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())

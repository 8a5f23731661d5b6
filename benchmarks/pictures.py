"""Pictures of the benchmark: waterfall of a run, roofline, utilisation against length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from amaranth.lib import data
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fusemax.evaluation.bench import RIVALS, Case, paper_utilisation
from fusemax.spec import Config, Op
from fusemax_hw.control.sequencer import sequencer_events
from fusemax_hw.words import west_word
from fusemax_sim.waveform_values import read_waveform

__all__ = ["intensity_of", "plot_lengths", "plot_roofline", "plot_waterfall", "roof"]

COLOURS = {"QK": "#4477aa", "MAX": "#ee6677", "EXP": "#ccbb44", "SUM": "#aa3377", "SLNV": "#228833"}
MEANINGS = {
    "QK": "QK: scores",
    "MAX": "MAX: maximum",
    "EXP": "EXP: weights",
    "SUM": "SUM: denominator",
    "SLNV": "SLNV: numerators",
    "wait": "waits for an operand",
    "idle": "has no tile",
    "bus": "bus words",
}
OTHERS = {"wait": "#222222", "idle": "#bbbbbb", "bus": "#88ccee"}
WAITS = ("stall_q", "stall_k", "stall_v", "stall_output", "idle")

SIGNALS = {
    "word": "sim_top.device.machine.core.sequencer.west",
    "events": "sim_top.device.machine.core.events",
    "tail": "sim_top.device.machine.core.tail",
    "irq": "sim_top.irq",
    "read_valid": "sim_top.m_axi_rvalid",
    "read_ready": "sim_top.m_axi_rready",
    "write_valid": "sim_top.m_axi_wvalid",
    "write_ready": "sim_top.m_axi_wready",
}
#: Cycle, length.
Run = tuple[int, int]


class Recording:
    """What the words at the array's corner were in every cycle from the doorbell to the interrupt.

    Members
    -------
    cycles
        From the doorbell to the interrupt.
    operations
        Cycles of every tile's operations, by name; tiles in the order in which they began.
    waits
        Cycles by what was waited for.
    reads, writes
        Cycles with a bus word.
    """

    def __init__(self, config: Config, path: Path) -> None:
        columns = read_waveform(path, SIGNALS, "sim_top.clk")
        doorbell = next(cycle for cycle, tail in enumerate(columns["tail"]) if tail)
        interrupt = next(cycle for cycle, irq in enumerate(columns["irq"]) if irq)
        columns = {name: values[doorbell:interrupt] for name, values in columns.items()}
        self.cycles = interrupt - doorbell
        self.operations: list[dict[str, list[int]]] = []
        in_hold: dict[int, int] = {}
        layout = west_word(config)
        for cycle, bits in enumerate(columns["word"]):
            control = data.Const(layout, bits).control
            if control.max:
                # The scores of the tile before the one that may begin with this very word.
                in_hold[control.hold_max] = len(self.operations) - 1
                self.operations[-1].setdefault("MAX", []).append(cycle)
            op = Op(control.op.value)
            if op == Op.QK:
                if control.first:
                    self.operations.append({})
                self.operations[-1].setdefault("QK", []).append(cycle)
            elif op != Op.NOP:
                self.operations[in_hold[control.hold]].setdefault(op.name, []).append(cycle)
        # Events are a cycle ahead of the corner: they have one register behind the decision, the corner has two.
        events = sequencer_events()
        happened = [data.Const(events, bits) for bits in columns["events"]]
        self.waits = {name: [cycle for cycle, event in enumerate(happened) if event[name]] for name in WAITS}
        self.reads, self.writes = (
            [c for c, both in enumerate(zip(columns[f"{way}_valid"], columns[f"{way}_ready"], strict=True)) if all(both)]
            for way in ("read", "write")
        )


def runs(cycles: Iterable[int]) -> list[Run]:
    """Neighbouring cycles as one run."""
    found: list[Run] = []
    for cycle in cycles:
        if found and found[-1][0] + found[-1][1] == cycle:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((cycle, 1))
    return found


def plot_waterfall(config: Config, waveform: Path, path: Path, title: str) -> dict[str, int]:
    """Waterfall of the run in ``waveform``: what every tile did when, what the array did, what it waited for, bus words."""
    run = Recording(config, waveform)
    tiles = len(run.operations)
    rows: list[tuple[str, dict[str, list[int]]]] = [
        ("array", {name: [c for tile in run.operations for c in tile.get(name, ())] for name in COLOURS if name != "MAX"}),
        ("waits for operands", {"wait": [c for name, cycles in run.waits.items() if name != "idle" for c in cycles]}),
        ("no tile", {"idle": run.waits["idle"]}),
        ("bus words read", {"bus": run.reads}),
        ("bus words written", {"bus": run.writes}),
    ]
    figure = Figure(figsize=(13, 7.6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.6, 1])
    for number, tile in enumerate(run.operations):
        for name, cycles in tile.items():
            bottom, height = (number - 0.45, 0.9) if name != "MAX" else (number - 0.45, 0.45)
            upper.broken_barh(runs(cycles), (bottom, height), facecolors=COLOURS[name], linewidth=0)
    upper.set_ylim(tiles - 0.4, -0.6)
    upper.set_ylabel("tiles, in order")
    for row, (_, kinds) in enumerate(rows):
        for name, cycles in kinds.items():
            colour = COLOURS.get(name) or OTHERS[name]
            lower.broken_barh(runs(sorted(cycles)), (row - 0.38, 0.76), facecolors=colour, linewidth=0)
    lower.set_yticks(range(len(rows)), [name for name, _ in rows])
    lower.set_ylim(len(rows) - 0.45, -0.55)
    lower.set_xlim(0, run.cycles)
    lower.set_xlabel("cycles from the doorbell to the interrupt")
    for axes in (upper, lower):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(title)
    handles = [Patch(color=COLOURS.get(name) or OTHERS[name], label=meaning) for name, meaning in MEANINGS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // 2), frameon=False)
    figure.savefig(path, dpi=130)
    return {"cycles": run.cycles, "tiles": tiles, **{name: len(cycles) for name, cycles in run.waits.items()}}


def roof(config: Config, intensity: float, bytes_per_cycle: float, limit: float) -> float:
    """Utilisation that a memory allows: multiply-adds a byte times bytes a cycle over PEs, or the schedule's limit."""
    return min(limit, intensity * bytes_per_cycle / (config.rows * config.columns))


def plot_roofline(rows: list[Mapping[str, Any]], path: Path) -> None:
    """Measured utilisation against multiply-adds per byte read, with the roof of every bandwidth."""
    figure = Figure(figsize=(8.5, 5), layout="constrained")
    axes: Axes = figure.subplots()
    colours = {1: "#4477aa", 2: "#ee6677", 4: "#228833"}
    config = Case(heads=1, queries=1, keys=1, e=1, f=1, config=rows[0]["config"]).machine
    limit = max(row["limit"] for row in rows)
    low, high = 1.5, 200
    points = [low * (high / low) ** (index / 300) for index in range(301)]
    for interval, colour in colours.items():
        bandwidth = config.bus_bytes / interval
        axes.plot(points, [roof(config, x, bandwidth, limit) for x in points], color=colour, linewidth=1.2)
        chosen = sorted((row for row in rows if row["beat_interval_cycles"] == interval), key=intensity_of)
        axes.plot(
            [intensity_of(row) for row in chosen],
            [row["utilisation"] for row in chosen],
            linestyle="none",
            marker="o",
            color=colour,
            label=f"{bandwidth:g} bytes a cycle",
        )
    labels = sorted((row for row in rows if row["beat_interval_cycles"] == 4), key=intensity_of)
    for row in labels:
        axes.annotate(
            f"{row['queries']} queries",
            (intensity_of(row), row["utilisation"]),
            xytext=(6, -11),
            textcoords="offset points",
            fontsize=8,
            color="0.3",
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(4, high)
    axes.set_ylim(0.08, 1.2)
    ticks = (0.1, 0.2, 0.5, 1.0)
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ticks = (5, 10, 20, 50, 100, 200)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("multiply-adds per byte read and written")
    axes.set_ylabel("FLOPs utilisation")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", title="memory bandwidth")
    what = f"{config.name}, {config.rows} × {config.columns}, 1024 keys, E = F = 64"
    axes.set_title(f"{what}: lines are roofs, points measured on the Verilog", fontsize=10)
    figure.savefig(path, dpi=130)


def intensity_of(row: Mapping[str, Any]) -> float:
    """Useful multiply-adds per byte that was read or written."""
    macs = row["heads"] * row["queries"] * row["keys"] * (row["e"] + row["f"])
    return macs / (row["bytes_read"] + row["bytes_written"])


def plot_lengths(rows: list[Mapping[str, Any]], path: Path) -> None:
    """Utilisation of one head against its length, E = F = 64: measured, modelled, the paper's closed form, others."""
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    axes: Axes = figure.subplots()

    def series(config: str, kind: str) -> list[tuple[int, float]]:
        return sorted((row["keys"], row["utilisation"]) for row in rows if row["config"] == config and row["kind"] == kind)

    measured, modelled, large = series("base", "RTL"), series("base", "model"), series("paper", "model")
    axes.plot(*zip(*measured, strict=True), color="#4477aa", marker="o", label="fusemax 16 × 16, measured on the Verilog")
    if modelled:
        joined = [*measured[-1:], *modelled]
        axes.plot(
            *zip(*joined, strict=True),
            color="#4477aa",
            marker="o",
            mfc="white",
            linestyle="--",
            # The first point is the last measured one.
            markevery=slice(1, None),
            label="fusemax 16 × 16, cycle model",
        )
    if large:
        axes.plot(
            *zip(*large, strict=True),
            color="#228833",
            marker="s",
            mfc="white",
            linestyle="--",
            label="fusemax 256 × 256, cycle model",
        )
    lengths = [256 << index for index in range(13)]
    axes.plot(
        lengths,
        [paper_utilisation(64, 64, length) for length in lengths],
        color="#aa3377",
        linestyle="-.",
        label="FuseMax 256 × 256, the paper's closed form, no latency or fill",
    )
    for rival, colour in zip(RIVALS[1:], ("0.45", "#997700"), strict=True):
        if rival.low == rival.high:
            axes.axhline(rival.low, color=colour, linewidth=1.2, linestyle=":", label=f"{rival.name}, {rival.kind}")
        else:
            axes.axhspan(rival.low, rival.high, color=colour, alpha=0.18, linewidth=0, label=f"{rival.name}, {rival.kind}")
    limit = 128 / 130
    axes.axhline(limit, color="0.2", linewidth=0.8)
    axes.annotate("limit (E + F) / (E + F + 2) = 0.985", (20, limit), xytext=(0, 3), textcoords="offset points", fontsize=8)
    axes.set_xscale("log", base=2)
    axes.set_xticks([1 << index for index in range(4, 21, 2)], ["16", "64", "256", "1K", "4K", "16K", "64K", "256K", "1M"])
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("queries and keys of the head, E = F = 64")
    axes.set_ylabel("FLOPs utilisation")
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right", fontsize=8.5)
    figure.savefig(path, dpi=130)

"""Pictures of the paper's evaluation with the series of ours beside the published ones; needs matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import MissingExtraError
from .designs import DESIGNS
from .machine import Unit
from .results import Result, Scope, ratios, result
from .tables import ARRAY_EINSUMS, EINSUM_DESIGNS, EINSUM_MODEL
from .workloads import LENGTHS, MODELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

COLOURS = {
    "unfused": "#bbbbbb",
    "flat": "#ccbb44",
    "cascade": "#66ccee",
    "arch": "#4477aa",
    "binding": "#228833",
    "ours": "#ee6677",
}
EINSUM_COLOURS = {"QK": "#4477aa", "LM": "#ee6677", "SLN": "#ccbb44", "SLD": "#aa3377", "SLNV/AV": "#228833"}
SHORT_TITLES = {"flat": "FL", "cascade": "+C", "arch": "+A", "binding": "+B", "ours": "ours"}


def draw(directory: Path) -> list[Path]:
    """Write all pictures as PNG into a directory that exists; their paths.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("plotting needs matplotlib: pip install 'fusemax[cli]'") from error
    pictures: dict[str, Figure] = {
        "speedup": bars(
            [
                ("attention", relative("speed-up", Scope.ATTENTION)),
                ("end to end", relative("speed-up", Scope.END_TO_END)),
            ],
            "speed-up over unfused",
        ),
        "energy": bars(
            [("attention", relative("energy", Scope.ATTENTION)), ("end to end", relative("energy", Scope.END_TO_END))],
            "energy over unfused",
        ),
        "utilisation": bars(
            [
                ("2D array", lambda design, model, length: result(design, model, length).util_2d),
                ("1D array", lambda design, model, length: result(design, model, length).util_1d),
            ],
            "utilisation, attention",
        ),
        "einsums": einsum_bars(),
        "lengths": length_lines(),
    }
    paths = []
    for name, figure in pictures.items():
        path = directory / f"{name}.png"
        figure.savefig(path, dpi=130)
        paths.append(path)
    return paths


def relative(quantity: str, scope: Scope) -> Callable[[str, str, str], float]:
    """Ratio to unfused, by design, model and length."""
    points = [(model, length) for model in MODELS for length in LENGTHS]
    values = {
        (design, *point): value
        for design in DESIGNS
        for point, value in zip(points, ratios(quantity, design, "unfused", scope), strict=True)
    }
    return lambda design, model, length: values[design, model, length]


def bars(rows: Sequence[tuple[str, Callable[[str, str, str], float]]], label: str) -> Figure:
    """A row of panels for each quantity, a panel for each model, a group of bars for each length."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(14, 3 * len(rows) + 0.6), layout="constrained")
    panels = figure.subplots(len(rows), len(MODELS), sharey="row", squeeze=False)
    width = 0.84 / len(DESIGNS)
    for (what, value), line in zip(rows, panels, strict=True):
        for model, axes in zip(MODELS, line, strict=True):
            for number, design in enumerate(DESIGNS):
                places = [group + (number - (len(DESIGNS) - 1) / 2) * width for group in range(len(LENGTHS))]
                heights = [value(design, model, length) for length in LENGTHS]
                axes.bar(places, heights, width * 0.95, color=COLOURS[design])
            axes.set_xticks(range(len(LENGTHS)), list(LENGTHS))
            axes.set_title(f"{model}, {what}", fontsize=10)
            tidy(axes)
        line[0].set_ylabel(label)
    handles = [Patch(color=COLOURS[name], label=design.title) for name, design in DESIGNS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def einsum_bars() -> Figure:
    """Utilisation of the 2D array by Einsum: a panel for each length, a stacked bar for each design."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(14, 3.6), layout="constrained")
    for length, axes in zip(LENGTHS, figure.subplots(1, len(LENGTHS), sharey=True), strict=True):
        for number, design in enumerate(EINSUM_DESIGNS):
            cost, bottom = result(design, EINSUM_MODEL, length).cost, 0.0
            for name, einsums in ARRAY_EINSUMS.items():
                height = cost.utilisation(Unit.ARRAY, *einsums)
                axes.bar(number, height, 0.75, bottom, color=EINSUM_COLOURS[name])
                bottom += height
        axes.set_xticks(range(len(EINSUM_DESIGNS)), [SHORT_TITLES[design] for design in EINSUM_DESIGNS])
        axes.set_title(f"{EINSUM_MODEL}, {length}", fontsize=10)
        axes.set_ylim(0, 1.02)
        tidy(axes)
        if length == next(iter(LENGTHS)):
            axes.set_ylabel("utilisation of the 2D array")
    handles = [Patch(color=colour, label=name) for name, colour in EINSUM_COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def length_lines() -> Figure:
    """Utilisation against length, for both head dims: all that the PEs do, and attention's two products alone."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 7.4), layout="constrained")
    quantities: list[tuple[str, Callable[[Result], float]]] = [
        ("2D array: any Einsum", lambda found: found.util_2d),
        ("2D array: multiply-adds of QK and AV only", lambda found: found.flops_utilisation),
    ]
    panels = figure.subplots(2, 2, sharey=True, sharex=True)
    for model, column in (("BERT", 0), ("XLM", 1)):
        for row, (what, value) in enumerate(quantities):
            axes: Axes = panels[row][column]
            for name, design in DESIGNS.items():
                points = [value(result(name, model, length)) for length in LENGTHS]
                style = {"marker": "o", "markersize": 4, "linewidth": 1.6}
                axes.plot(range(len(LENGTHS)), points, color=COLOURS[name], label=design.title, **style)
                if name in ("binding", "ours"):
                    axes.annotate(
                        f"{points[-1]:.3f}",
                        (len(LENGTHS) - 1, points[-1]),
                        xytext=(6, 2 if name == "ours" else -9),
                        textcoords="offset points",
                        fontsize=8,
                        color=COLOURS[name],
                    )
            axes.set_xticks(range(len(LENGTHS)), list(LENGTHS))
            axes.set_xlim(-0.2, len(LENGTHS) - 0.4)
            axes.set_ylim(0, 1.05)
            axes.set_title(f"E = F = {MODELS[model].head_dim}, {what}", fontsize=10)
            tidy(axes)
        panels[1][column].set_xlabel("queries and keys")
    for row in panels:
        row[0].set_ylabel("utilisation, attention")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def tidy(axes: Axes) -> None:
    axes.grid(axis="y", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)

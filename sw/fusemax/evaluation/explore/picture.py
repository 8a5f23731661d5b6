"""Picture of a sweep: cycles against area, and the Pareto front."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import MissingExtraError

__all__ = ["draw"]

#: A point of the front has its name beside it if it takes so many times fewer cycles than the last one that has.
LABEL_STEP = 1.3
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")


def draw(records: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Write the picture; the file's suffix chooses the format.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullLocator
    except ImportError as error:
        raise MissingExtraError("drawing needs matplotlib: pip install 'fusemax[cli]'") from error
    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.subplots()
    chosen = sorted((record for record in records if record["front"]), key=lambda record: record["area"])
    axes.step(
        [record["area"] for record in chosen],
        [record["cycles"] for record in chosen],
        where="post",
        color="0.6",
        linewidth=1,
        zorder=1,
        label="Pareto front",
    )
    for number, bits in enumerate(sorted({record["bus_bits"] for record in records})):
        of_bus = [record for record in records if record["bus_bits"] == bits]
        colour = COLOURS[number % len(COLOURS)]
        for on_front, face in ((False, "white"), (True, colour)):
            shown = [record for record in of_bus if record["front"] is on_front]
            axes.scatter(
                [record["area"] for record in shown],
                [record["cycles"] for record in shown],
                s=28 if on_front else 14,
                facecolors=face,
                edgecolors=colour,
                linewidths=0.9,
                zorder=3 if on_front else 2,
                label=f"bus of {bits} bits" if on_front or not any(record["front"] for record in of_bus) else None,
            )
    labelled = float("inf")
    for record in chosen:
        if record["cycles"] < labelled / LABEL_STEP:
            labelled = record["cycles"]
            text = f"{record['rows']} × {record['columns']}, {record['query_tiles']}"
            point = (record["area"], record["cycles"])
            axes.annotate(text, point, xytext=(-6, -10), textcoords="offset points", ha="right", fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(lambda value, _: f"{value / 1000:,.0f}k")
        axis.set_minor_locator(NullLocator())
    axes.margins(0.08)
    axes.set_xlabel("area, LUT equivalents")
    axes.set_ylabel("cycles")
    axes.set_title(f"{title}\nfront: rows × columns, query tiles", fontsize=10)
    axes.grid(color="0.93")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130)

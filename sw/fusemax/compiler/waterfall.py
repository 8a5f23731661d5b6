"""Picture of overlapping tiles: each tile's operations, and below what the array and the lanes do with them."""

from __future__ import annotations

from collections.abc import Iterable, Set
from os import PathLike
from typing import TYPE_CHECKING, Protocol

from ..errors import MissingExtraError
from ..plotting import save_picture
from ..spec import Config, Timing
from .micro import Operation
from .placed import Placed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Timetable", "plot"]

COLOURS = {
    Operation.QK: "#4477aa",
    Operation.BIAS: "#44aa99",
    Operation.MASK: "#bbbbbb",
    Operation.MAX: "#ee6677",
    Operation.EXP: "#ccbb44",
    Operation.LIN: "#999933",
    Operation.SET: "#ddaa33",
    Operation.ADD: "#66ccee",
    Operation.ENT: "#bb5566",
    Operation.SUM: "#aa3377",
    Operation.SLNV: "#228833",
}
MEANINGS = {
    Operation.QK: "QK: scores",
    Operation.BIAS: "BIAS: biases of the scores",
    Operation.MASK: "MASK: key intervals",
    Operation.MAX: "MAX: maximum, reference",
    Operation.EXP: "EXP: weights",
    Operation.LIN: "LIN: weights with a sign",
    Operation.SET: "SET: weight to score",
    Operation.ADD: "ADD: weight onto score",
    Operation.ENT: "ENT: sums of scores",
    Operation.SUM: "SUM: denominator",
    Operation.SLNV: "SLNV: numerators",
}
#: Half the height of a bar, rows being 1 apart.
HALF_HEIGHT = 0.36
#: Names that fit a line of the legend.
MOST_IN_A_LINE = 6
#: A run of slots: first slot, length, operation, tile.
Run = tuple[int, int, Operation, int]


class Timetable(Protocol):
    """What is drawn: a :class:`fusemax.compiler.schedule.Schedule`, or anything with its members."""

    @property
    def config(self) -> Config:
        """Machine that it is for."""
        ...

    @property
    def e(self) -> int:
        """Head dim of queries and keys."""
        ...

    @property
    def f(self) -> int:
        """Head dim of values."""
        ...

    @property
    def ii(self) -> int:
        """Initiation interval in slots."""
        ...

    @property
    def stages(self) -> int:
        """Iterations that a tile spans."""
        ...

    @property
    def placed(self) -> tuple[Placed, ...]:
        """Operations of one tile."""
        ...


def plot(schedule: Timetable, path: str | PathLike[str], tiles: int = 5) -> None:
    """Draw overlapping tiles, and what the array and the lanes do with them, into a file.

    Parameters
    ----------
    schedule
        What a tile's operations are and where, in slots.
    path
        File to write; its suffix chooses the format (png, svg, pdf).
    tiles
        Tiles to draw, 1 or more.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    ValueError
        If ``tiles`` is not a positive integer.
    OSError
        If the file cannot be written.
    """
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Patch
    except ImportError as error:
        raise MissingExtraError("plotting needs matplotlib: pip install 'fusemax[cli]'") from error
    if not isinstance(tiles, int) or tiles < 1:
        raise ValueError(f"tiles must be an integer of at least 1, not {tiles!r}")
    config, timing, ii = schedule.config, Timing(schedule.config), schedule.ii
    to_lane = timing.feeder + config.rows + config.pe_latency - 1
    issued = [(tile * ii + p.offset, p.operation, tile) for tile in range(tiles) for p in schedule.placed]
    issued.sort(key=lambda entry: entry[0])
    beside = (Operation.MAX, Operation.MASK)
    running = any(p.operation is Operation.EXP and p.micro.reference is None for p in schedule.placed)
    lane_reference: list[Run] = [
        (slot + to_lane, timing.reference, operation, tile)
        for slot, operation, tile in issued
        if operation is Operation.MAX and running
    ]
    sums = (Operation.SUM, Operation.SLNV, Operation.ENT)
    lane_add = [(slot + to_lane, operation, tile) for slot, operation, tile in issued if operation in sums]
    legend = meanings({p.operation for p in schedule.placed}, running=running)
    resources: list[tuple[str, list[Run]]] = [
        ("array:\nmain operation", list(_runs(entry for entry in issued if entry[1] not in beside))),
        ("array:\nbeside it", list(_runs(entry for entry in issued if entry[1] in beside))),
        *([("lane 0:\nreference", lane_reference)] if running else []),
        ("lane 0:\nrescale, add", list(_runs(lane_add))),
    ]

    end = issued[-1][0] + to_lane + 1
    figure = Figure(figsize=(13, 1.9 + 0.42 * tiles + 0.62 * len(resources)), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[0.42 * tiles, 0.62 * len(resources)])
    for tile in range(tiles):
        _draw(upper, _runs(entry for entry in issued if entry[2] == tile and entry[1] not in beside), tile, end)
        _draw(upper, _runs(entry for entry in issued if entry[2] == tile and entry[1] in beside), tile, end, narrow=True)
    upper.set_yticks(range(tiles), [f"tile {tile}" for tile in range(tiles)])
    upper.set_ylabel("operations of a tile")
    upper.set_ylim(tiles - 0.5, -0.5)
    for row, (_, runs) in enumerate(resources):
        _draw(lower, runs, row, end, number=True)
    lower.set_yticks(range(len(resources)), [name for name, _ in resources])
    lower.set_ylim(len(resources) - 0.5, -0.5)
    lower.set_xlim(-0.01 * end, 1.01 * end)
    lower.set_xlabel("issued slots (cycles, if nothing stalls); numbers are tiles, vertical lines are iterations")
    for axes in (upper, lower):
        for start in range(0, end, ii):
            axes.axvline(start, color="0.8", linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(
        f"Overlapping tiles on {config.name!r}, {config.rows} × {config.columns}: E = {schedule.e}, F = {schedule.f}, "
        f"a tile every {ii} slots, {schedule.stages} stages"
    )
    figure.legend(
        handles=[Patch(color=COLOURS[operation], label=meaning) for operation, meaning in legend.items()],
        loc="outside lower center",
        ncols=len(legend) if len(legend) <= MOST_IN_A_LINE else -(-len(legend) // 2),
        frameon=False,
    )
    save_picture(figure, path, dpi=150)


def meanings(used: Set[Operation], *, running: bool) -> dict[Operation, str]:
    """Name what the operations do; without a running maximum MAX takes none."""
    found = {operation: meaning for operation, meaning in MEANINGS.items() if operation in used}
    if Operation.MAX in used and not running:
        found[Operation.MAX] = "MAX: moves scores"
    return found


def _runs(entries: Iterable[tuple[int, Operation, int]]) -> Iterable[Run]:
    """Neighbouring slots of the same operation and tile as one run."""
    run: Run | None = None
    for slot, operation, tile in entries:
        if run is not None and run[2:] == (operation, tile) and slot == run[0] + run[1]:
            run = (run[0], run[1] + 1, operation, tile)
            continue
        if run is not None:
            yield run
        run = (slot, 1, operation, tile)
    if run is not None:
        yield run


def _draw(axes: Axes, runs: Iterable[Run], row: int, end: int, *, narrow: bool = False, number: bool = False) -> None:
    """Bars of one row of a picture ``end`` slots wide; ``narrow`` ones lie on top of the others, in the upper half.

    Slots too short to see get an outline of their own colour, and no number.
    """
    bottom, height = (row - HALF_HEIGHT, HALF_HEIGHT if narrow else 2 * HALF_HEIGHT)
    for start, length, operation, tile in runs:
        visible = length > min(2, end / 120)
        axes.broken_barh(
            [(start, length)],
            (bottom, height),
            facecolors=COLOURS[operation],
            edgecolors="white" if visible else COLOURS[operation],
            linewidth=0.4 if visible else 1.2,
            zorder=2 if visible else 3,
        )
        if number and length > end / 120:
            axes.text(start + length / 2, row, str(tile), ha="center", va="center", fontsize=8, color="white", clip_on=True)

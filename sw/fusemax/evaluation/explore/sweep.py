"""Cycles and area of many points, and those that no other one beats in both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ..bench.results import Results
from ..cluster import Task, work_through
from .area import AreaTable
from .point import Point, evaluate, model_digest

__all__ = ["front", "records", "sweep", "unsaved"]

Row = dict[str, Any]


def sweep(
    points: Sequence[Point],
    results: Results,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    told: Callable[[int, Point, Row], None] | None = None,
) -> list[Row]:
    """Rows of the points, from ``results`` or from a Dask cluster now; each is saved as it comes.

    A row is what :func:`~fusemax.evaluation.explore.point.evaluate` gives.

    Parameters
    ----------
    scheduler, workers
        See :func:`fusemax.evaluation.cluster.work_through`.
    told
        Called with the number of points that are done, the latest one and its row.

    Raises
    ------
    ValueError
        If a worker has other sources than this process, besides what :func:`fusemax.evaluation.cluster.work_through` raises.
    """
    digest = model_digest()
    missing = unsaved(points, results)
    left = len(missing)

    def done(task: Task, row: Row) -> None:
        nonlocal left
        if row["model"] != digest:
            raise ValueError(f"workers must have the same fusemax as this process, {digest}, not {row['model']}")
        left -= 1
        saved = results.put(missing[task.name], digest, row)
        if told is not None:
            told(len(points) - left, missing[task.name], saved)

    tasks = [Task(name, evaluate, (point,)) for name, point in missing.items()]
    work_through(tasks, done, scheduler=scheduler, workers=workers)
    rows = [results.get(point, digest) for point in points]
    return [row for row in rows if row is not None]


def unsaved(points: Sequence[Point], results: Results) -> dict[str, Point]:
    """Return the points, by their number as a string, that ``results`` does not have, or has from another model."""
    digest = model_digest()
    return {f"{number}": point for number, point in enumerate(points) if results.get(point, digest) is None}


def front(costs: Sequence[tuple[float, float]]) -> list[bool]:
    """Which of the (cycles, area) are on the Pareto front: no other one is as small in both and smaller in one."""
    best = float("inf")
    on_front = [False] * len(costs)
    seen: tuple[float, float] | None = None
    for cost, number in sorted((cost, number) for number, cost in enumerate(costs)):
        if cost[1] < best or cost == seen:
            on_front[number] = True
            best, seen = cost[1], cost
    return on_front


def records(points: Sequence[Point], rows: Sequence[Row], table: AreaTable) -> list[Row]:
    """What ``fusemax explore --json`` prints: parameters, cycles, utilisation, area, and whether the point is on the front."""
    found = []
    for point, row in zip(points, rows, strict=True):
        config = point.config
        area = table.area(config)
        swept = ("rows", "columns", "query_tiles", "bus_bits", "contexts")
        found.append(
            {
                **{name: getattr(config, name) for name in swept},
                "cycles": row["cycles"],
                "utilisation": round(point.workload.macs / (config.rows * config.columns * row["cycles"]), 5),
                "bytes_read": row["bytes_read"],
                **{name: round(value) for name, value in asdict(area).items()},
                "area": round(area.lut_equivalents),
            }
        )
    on_front = front([(record["cycles"], record["area"]) for record in found])
    return [{**record, "front": chosen} for record, chosen in zip(found, on_front, strict=True)]

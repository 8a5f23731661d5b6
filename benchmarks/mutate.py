"""Mutation testing: changes the code in thousands of ways, one at a time, and sees whether a test fails.

    python benchmarks/mutate.py [RESULTS] [--count N] [--area FOLDER]... [--near] [--scheduler ADDRESS | --workers N]

Changes are drawn at random, with a fixed seed, so that the first N of any call are the same. For each, the tests at the
mirrored path run first, then those of the folder, then whole calls, until one fails. A row is appended to RESULTS for each
change as it is tried; a second call goes on where the first stopped, and tries those again whose file or tests have changed.
Changes that no test notices are judged in survivors.json. Exit status 1 if one is not, or too few are noticed.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mutation.changes import changes
from mutation.trial import AREAS, digest, stages, try_change

from fusemax.cli.explore import add_cluster
from fusemax.evaluation.cluster import Task, work_through

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "mutants.jsonl"
SURVIVORS = ROOT / "benchmarks" / "results" / "survivors.json"
COUNT = 2000
SEED = 20
LEAST_NOTICED = 0.95

Row = dict[str, Any]


def drawn(areas: Sequence[str], count: int) -> Iterator[tuple[str, str]]:
    """Files and names of ``count`` changes, in a random order that stays the same."""
    found = [
        (path.relative_to(ROOT).as_posix(), change.name)
        for area in areas
        for path in (ROOT / area).rglob("*.py")
        for change in changes(ast.parse(path.read_text(encoding="utf-8")))
    ]
    found.sort(key=lambda pair: hashlib.sha256(f"{SEED} {' '.join(pair)}".encode()).digest())
    yield from found[:count]


def read(results: Path) -> dict[str, Row]:
    """The latest row of every change, by the file's path and the change's name."""
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else ()
    return {row["name"]: row for row in map(json.loads, lines)}


def _is_open(row: Row | None, now: str, near: bool) -> bool:
    """Whether a change is to be tried: for the first time, anew, or on tests that it was not tried on."""
    return row is None or row["digest"] != now or (row["status"] == "passed" and row["near"] and not near)


def summary(rows: Sequence[Row], judged: dict[str, str]) -> str:
    """A table of what became of the changes, by area."""
    counts = Counter((area, row["status"]) for row in rows for area in AREAS if row["name"].startswith(area + "/"))
    lines = [
        "| folder | changes | a test failed | too slow | not noticed, judged | not judged |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for area in AREAS:
        mine = [row for row in rows if row["name"].startswith(area + "/") and row["status"] == "passed"]
        known = sum(row["name"] in judged for row in mine)
        total = sum(counts[area, status] for status in ("failed", "late", "passed"))
        lines.append(
            f"| {area} | {total} | {counts[area, 'failed']} | {counts[area, 'late']} | {known} | {len(mine) - known} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Changes the code in many ways and sees whether a test fails.")
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--count", type=int, default=COUNT, metavar="N", help=f"changes to try; default: {COUNT}")
    parser.add_argument("--area", action="append", choices=AREAS, help="only files of this folder; may be repeated")
    parser.add_argument("--near", action="store_true", help="only tests of the mirrored path and folder")
    add_cluster(parser)
    options = parser.parse_args(arguments)

    rows = read(options.results)
    names = [(path, name, f"{path} {name}") for path, name in drawn(options.area or AREAS, options.count)]
    todo = [pair for pair in names if _is_open(rows.get(pair[2]), digest(pair[0]), options.near)]
    chosen = {path: stages(path, options.near) for path, _, _ in todo}
    options.results.parent.mkdir(parents=True, exist_ok=True)
    left = len(todo)
    with options.results.open("a", encoding="utf-8") as file:

        def done(task: Task, row: Row) -> None:
            nonlocal left
            left -= 1
            rows[task.name] = row = {"name": task.name, "digest": digest(task.arguments[0]), "near": options.near} | row
            print(json.dumps(row, ensure_ascii=False), file=file, flush=True)
            print(f"{len(names) - left} of {len(names)}: {row['status']} {row['seconds']} s: {task.name}", flush=True)

        tasks = [Task(full, try_change, (path, name, chosen[path])) for path, name, full in todo]
        work_through(tasks, done, scheduler=options.scheduler, workers=options.workers)

    judged = json.loads(SURVIVORS.read_text(encoding="utf-8")) if SURVIVORS.is_file() else {}
    tried = [rows[full] for _, _, full in names]
    unknown = [row["name"] for row in tried if row["status"] == "passed" and row["name"] not in judged]
    noticed = sum(row["status"] != "passed" for row in tried)
    print(summary(tried, judged))
    print(f"{noticed} of {len(tried)} noticed, {len(unknown)} not judged" + "".join(f"\n{name}" for name in unknown))
    return 1 if unknown or noticed < LEAST_NOTICED * len(tried) else 0


if __name__ == "__main__":
    sys.exit(main())

"""A pool of simulators beside one: 12 heads of 128 x 128, E = F = 32, on base.

    python benchmarks/pool.py [-o FILE] [--repeats N] [--workers N] [--config NAME]
    python benchmarks/pool.py --page

Each device is opened in turn, --repeats times, and runs the call twice, of which the second one counts: so all devices see
whatever else the computer does. The bits are compared. The second form writes docs/measurements/pool.md from
benchmarks/results/pool.json.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
from arguments import parser_of
from rows import markdown

import fusemax
from fusemax.evaluation.cluster import cores

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "pool.json"
PAGE = ROOT / "docs" / "measurements" / "pool.md"
#: The page, with places for numbers.
TEXT = ROOT / "benchmarks" / "pages" / "pool.md"
HEADS, LENGTH, HEAD_DIM = 12, 128, 32


def processor_seconds() -> tuple[float, float]:
    """CPU seconds of this process, and of its simulators."""
    children = psutil.Process().children(recursive=True)
    return time.process_time(), sum(sum(child.cpu_times()[:2]) for child in children)


def measure(config: str, workers: int | None, arrays: Sequence[np.ndarray]) -> tuple[dict[str, float], np.ndarray]:
    """Seconds, CPU seconds and cycles of a call on a device that has run it before, and its result."""
    with fusemax.open("rtl", config, workers=workers) as device:
        fusemax.attention(*arrays, device=device)
        before, start = processor_seconds(), time.monotonic()
        out = fusemax.attention(*arrays, device=device)
        seconds = time.monotonic() - start
        host, simulators = (after - first for after, first in zip(processor_seconds(), before, strict=True))
        found = {"seconds": seconds, "host_cpu": host, "simulator_cpu": simulators, "cycles": device.counters.cycles}
    return found, out


def page(result: dict[str, Any]) -> str:
    """docs/measurements/pool.md."""
    lines = []
    for name, runs in result["runs"].items():
        of = {key: median(run[key] for run in runs) for key in runs[0]}
        speedup = f"{ratio(result['runs'], name):.2f}"
        lines.append(
            [
                name,
                f"{of['seconds']:.2f}",
                f"{of['simulator_cpu']:.2f}",
                f"{of['host_cpu']:.2f}",
                f"{of['cycles']:.0f}",
                speedup,
            ]
        )
    head = ["", "seconds", "CPU of simulators", "CPU of the host", "cycles", "times one worker"]
    return TEXT.read_text(encoding="utf-8").format(
        **{name: result[name] for name in ("date", "command", "cores", "load", "processor", "config")},
        repeats=len(next(iter(result["runs"].values()))),
        heads=HEADS,
        length=LENGTH,
        head_dim=HEAD_DIM,
        table=markdown(head, lines),
        workers=result["workers"],
        by_cpu=f"{by_cpu(result):.2f}",
    )


def ratio(runs: dict[str, list[dict[str, float]]], name: str) -> float:
    """How many times as fast as a pool of one a device is."""
    return median(run["seconds"] for run in runs["pool of 1"]) / median(run["seconds"] for run in runs[name])


def by_cpu(result: dict[str, Any]) -> float:
    """What :func:`ratio` would be if CPU seconds were all that counts, shared by as many cores as workers."""

    def cpu(name: str, *keys: str) -> float:
        return median(sum(run[key] for key in keys) for run in result["runs"][name])

    workers = result["workers"]
    return workers * cpu("pool of 1", "simulator_cpu") / cpu(f"pool of {workers}", "simulator_cpu", "host_cpu")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = parser_of(__doc__)
    parser.add_argument("-o", "--output", type=Path, help="JSON file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--config", default="base")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args(arguments)
    if options.page:
        PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
        return 0
    random = np.random.default_rng(1)
    arrays = [random.standard_normal((HEADS, LENGTH, HEAD_DIM), np.float32) for _ in range(3)]
    kinds = {"one simulator": None, "pool of 1": 1, f"pool of {options.workers}": options.workers}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    outputs = []
    for _ in range(options.repeats):
        for name, workers in kinds.items():
            found, out = measure(options.config, workers, arrays)
            runs[name].append(found)
            outputs.append(out.view(np.uint16))
            print(name, {key: round(value, 2) for key, value in found.items()}, flush=True)
    equal = all(np.array_equal(outputs[0], other) for other in outputs)
    last = f"pool of {options.workers}"
    print(f"bits {'equal' if equal else 'NOT EQUAL'}; {last}: {ratio(runs, last):.2f} times a pool of 1", flush=True)
    if options.output:
        result = {
            "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["python", *sys.argv]),
            "processor": platform.machine(),
            "cores": cores(),
            "load": round(os.getloadavg()[0], 1),
            "config": options.config,
            "workers": options.workers,
            "equal": equal,
            "ratio": round(ratio(runs, last), 3),
            "runs": runs,
        }
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())

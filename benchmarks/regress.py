"""Full regression on the emitted Verilog: random problems on every configuration, the MiniLM heads, injected faults, the
host bridge on a noisy line, and the board system behind it.

    python benchmarks/regress.py [RESULTS] [--scheduler ADDRESS | --workers N] [--config NAME]... [--count N]

Runs on Dask, a problem a task, on all cores of this machine or on a cluster. Each problem's row is saved as it
is measured; a second call goes on where the first stopped. Rows belong to a machine: when its Verilog has changed,
they are measured again. Exit status 1 if anything is not equal, with the commands that repeat it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import fusemax
from fusemax.bridge import BridgeTransport, LinkError
from fusemax.cli.explore import add_cluster
from fusemax.errors import DeviceError
from fusemax.evaluation import exact, minilm
from fusemax.evaluation.board_selftest import check_results
from fusemax.evaluation.cluster import Task, work_through
from fusemax_sim import fault_injection, problems
from fusemax_sim.board import BoardSimulation
from fusemax_sim.bridge import Noise, measure_throughput, soak
from fusemax_sim.emission import verilog_digest

RESULTS = Path(__file__).resolve().parent / "results" / "regress.json"
#: Problems of each configuration; tests/cosim takes other seeds.
COUNTS = {"tiny": 70, "small": 60, "odd3x5": 60, "flat2x7": 20, "tall9x2": 20, "wide5x6": 20, "base": 20}
FIRST_SEED = 1000
MINILM_CONFIG = "base"
#: Sessions of injected faults, and how many each has.
SESSIONS = {"tiny": 30, "small": 6, "odd3x5": 8, "flat2x7": 6, "tall9x2": 6, "wide5x6": 6}
INJECTIONS = 20
BOARD_CONFIG = "tiny"
#: Whole tests of a noisy board.
NOISE_SEEDS = range(8)
BRIDGE_CONFIG = "small"
#: Random requests to bridge and memory alone, under noise: seeds, and how many each has; and the share of payload without.
BRIDGE_SEEDS, BRIDGE_FRAMES = range(8), 2500
LEAST_SHARE = 0.85
#: Relative L2 error against float64 that a head may have with float32 out.
BUDGET = 1e-4

Row = dict[str, Any]


class Rows:
    """Rows by name and machine in a JSON file, written anew with every row, in one step."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, Row] = json.loads(path.read_text())["rows"] if path.is_file() else {}

    def measured(self, name: str, digest: str) -> bool:
        return name in self.rows and self.rows[name]["machine"] == digest and self.rows[name]["equal"]

    def put(self, name: str, row: Row) -> None:
        self.rows[name] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        by_suite, equal = Counter[str](), Counter[str]()
        for row in self.rows.values():
            count = row.get("injections", row.get("frames", 1))
            by_suite[row["suite"]] += count
            equal[row["suite"]] += row["equal"] * count
        summary = {suite: {"problems": count, "equal": equal[suite]} for suite, count in sorted(by_suite.items())}
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in self.rows.items())
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(f'{{"summary": {json.dumps(summary)},\n "rows": {{\n{lines}\n}}}}\n')
        os.replace(partial, self.path)


@cache
def machine(config: str) -> str:
    """Digest of a configuration's Verilog."""
    return verilog_digest(problems.CONFIGS[config])[:16]


def random_problem(config: str, seed: int) -> Row:
    row = {"suite": config, "machine": machine(config)}
    try:
        return row | {"equal": True, **problems.check(config, seed)}
    except problems.Disagreement as error:
        return row | {"equal": False, "repeat": problems.draw(config, seed).command, "differences": str(error)}


def injected(config: str, seed: int) -> Row:
    """Faults at random times: none hangs the machine, writes where it must not, or spoils the jobs behind it."""
    row = {"suite": "faults", "machine": machine(config), "injections": INJECTIONS}
    try:
        found = fault_injection.inject_faults(config, seed, INJECTIONS)
    except problems.Disagreement as error:
        repeat = f"python -m fusemax_sim.fault_injection {config} {seed} {INJECTIONS}"
        return row | {"equal": False, "repeat": repeat, "differences": str(error)}
    return row | {"equal": True, "causes": dict(Counter(row["cause"] for row in found))}


def minilm_head(layer: int, head: int) -> Row:
    """A head in both output formats: bits against the model, error against float64."""
    data = minilm.load()
    q, k, v = (array[layer, head] for array in (data.q, data.k, data.v))
    results = {}
    cycles = 0
    for kind in ("rtl", "model"):
        with fusemax.open(kind, MINILM_CONFIG) as device:
            results[kind] = [fusemax.attention(q, k, v, device=device, out_dtype=out) for out in ("float32", "bfloat16")]
            cycles = device.counters.cycles if kind == "rtl" else cycles
    equal = all(np.array_equal(*pair) for pair in zip(results["rtl"], results["model"], strict=True))
    error = exact.relative_error(results["rtl"][0], exact.attention(q, k, v))
    found = {"equal": bool(equal and error <= BUDGET), "error": float(f"{error:.3e}"), "cycles": cycles}
    return {"suite": "minilm", "machine": machine(MINILM_CONFIG), **found}


def bridge_soak(seed: int) -> Row:
    """Random requests with noise in both directions: no byte is wrong, no word is accessed twice, nothing hangs."""
    row = {"suite": "bridge", "machine": machine(BRIDGE_CONFIG), "frames": BRIDGE_FRAMES}
    try:
        found = soak(BRIDGE_FRAMES, seed=seed)
    except LinkError as error:
        repeat = f"fusemax_sim.bridge.soak({BRIDGE_FRAMES}, seed={seed})"
        return row | {"equal": False, "repeat": repeat, "differences": str(error)}
    repeated = {"repeated": found.counts.repeated_requests, "polls": found.counts.polls, "damaged": found.counts.damaged}
    kept = {name: value for name, value in asdict(found).items() if name not in ("counts", "cycles")}
    return row | {"equal": found.passed, **kept, **repeated}


def bridge_share() -> Row:
    """Payload bytes times 10 times clocks per bit, over cycles: of bursts, without noise."""
    share = measure_throughput()
    shares = {name: round(value, 4) for name, value in asdict(share).items()}
    return {"suite": "line", "machine": machine(BRIDGE_CONFIG), "equal": min(shares.values()) >= LEAST_SHARE, **shares}


def board_head(layer: int, head: int) -> Row:
    """A head on the board system, the RTL device and the model: the same bits."""
    data = minilm.load()
    q, k, v = (array[layer, head] for array in (data.q, data.k, data.v))
    results = []
    with BoardSimulation(BOARD_CONFIG) as board:
        for kind, options in (("board", {"port": board.port, "baud": board.baud}), ("rtl", {}), ("model", {})):
            with fusemax.open(kind, BOARD_CONFIG, **options) as device:
                results.append(fusemax.attention(q, k, v, device=device).view(np.uint16))
        cycles = board.seen.cycles
    equal = all(np.array_equal(results[0], other) for other in results[1:])
    return {"suite": "board", "machine": machine(BOARD_CONFIG), "equal": equal, "cycles": cycles}


def noisy_board(seed: int) -> Row:
    """The tests of ``fusemax board test`` with noise on the line: every bit is right, whatever had to be repeated."""
    row = {"suite": "board noise", "machine": machine(BOARD_CONFIG)}
    noise = Noise(flip=2e-4, drop=1e-4, extra=1e-4, seed=seed)
    with BoardSimulation(BOARD_CONFIG, noise=noise) as board:
        try:
            with fusemax.open("board", BOARD_CONFIG, port=board.port, baud=board.baud) as device:
                outcomes = list(check_results(device, heads=2, decode=12))
                assert isinstance(device.transport, BridgeTransport)
                counts = device.transport.counts
        except DeviceError as error:
            return row | {"equal": False, "differences": f"noise {noise}: {error}"}
        seen = board.seen
    return row | {
        "equal": all(outcome.right for outcome in outcomes),
        "noise": seen.flips + seen.drops + seen.extras,
        "repeated": counts.repeated_requests,
        "damaged": counts.damaged,
    }


def wanted(configs: Sequence[str], count: int | None) -> list[tuple[str, Task]]:
    """All tasks with their configurations; of each at most ``count`` problems; MiniLM, bridge and board if all are wanted."""
    found = [
        (config, Task(f"{config} {seed}", random_problem, (config, seed)))
        for config in configs or COUNTS
        for seed in range(FIRST_SEED, FIRST_SEED + min(COUNTS[config], count or COUNTS[config]))
    ]
    found += [
        (config, Task(f"faults {config} {seed}", injected, (config, seed)))
        for config in configs or SESSIONS
        for seed in range(FIRST_SEED, FIRST_SEED + min(SESSIONS.get(config, 0), count or COUNTS[config]))
    ]
    if not configs:
        layers, heads = minilm.load().q.shape[:2]
        pairs = [(layer, head) for layer in range(layers) for head in range(heads)]
        found += [(MINILM_CONFIG, Task(f"minilm {layer} {head}", minilm_head, (layer, head))) for layer, head in pairs]
        found += [(BRIDGE_CONFIG, Task(f"bridge {seed}", bridge_soak, (seed,))) for seed in BRIDGE_SEEDS]
        found += [(BRIDGE_CONFIG, Task("bridge line", bridge_share, ()))]
        found += [(BOARD_CONFIG, Task(f"board {layer} {head}", board_head, (layer, head))) for layer, head in pairs]
        found += [(BOARD_CONFIG, Task(f"board noise {seed}", noisy_board, (seed,))) for seed in NOISE_SEEDS]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Full regression on the emitted Verilog, against the model.")
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    parser.add_argument("--config", action="append", choices=tuple(COUNTS), help="only this one; may be repeated")
    parser.add_argument("--count", type=int, metavar="N", help="at most so many problems of each configuration")
    add_cluster(parser)
    options = parser.parse_args(arguments)
    rows, tasks = Rows(options.results), wanted(options.config or (), options.count)
    digests = {config: machine(config) for config in {config for config, _ in tasks}}
    missing = {task.name: digests[config] for config, task in tasks if not rows.measured(task.name, digests[config])}
    left = len(missing)

    def done(task: Task, row: Row) -> None:
        nonlocal left
        if row["machine"] != missing[task.name]:
            raise ValueError(f"{task.name}: workers must have the same sources, {missing[task.name]}, not {row['machine']}")
        left -= 1
        rows.put(task.name, row)
        print(f"{len(tasks) - left} of {len(tasks)}: {task.name}: {'equal' if row['equal'] else 'NOT EQUAL'}", flush=True)
        if not row["equal"]:
            print(row.get("differences", row), file=sys.stderr, flush=True)

    todo = [task for _, task in tasks if task.name in missing]
    work_through(todo, done, scheduler=options.scheduler, workers=options.workers)
    wrong = [task.name for _, task in tasks if not rows.rows[task.name]["equal"]]
    print(f"{len(tasks) - len(wrong)} passed, {len(wrong)} failed" + "".join(f"\n{name}" for name in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

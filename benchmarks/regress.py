"""Full regression on the emitted Verilog: random problems on every configuration, the MiniLM heads, and injected faults.

    python benchmarks/regress.py [RESULTS]

Each problem's row is saved as it is measured; a second call goes on where the first stopped. Rows belong to a machine: when
what its Verilog is made from has changed, they are measured again. Exit status 1 if anything is not equal, with the commands
that repeat it.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import fusemax
from fusemax import exact, minilm
from fusemax_sim import injections, problems
from fusemax_sim.emission import emission_digest

RESULTS = Path(__file__).resolve().parent / "results" / "regress.json"
#: Problems of each configuration; tests/cosim takes other seeds.
COUNTS = {"tiny": 70, "small": 60, "odd3x5": 60, "flat2x7": 20, "tall9x2": 20, "wide5x6": 20, "base": 20}
FIRST_SEED = 1000
MINILM_CONFIG = "base"
#: Sessions of injected faults, and how many each has.
SESSIONS = {"tiny": 30, "small": 6, "odd3x5": 8, "flat2x7": 6, "tall9x2": 6, "wide5x6": 6}
INJECTIONS = 20
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
            by_suite[row["suite"]] += row.get("injections", 1)
            equal[row["suite"]] += row["equal"] * row.get("injections", 1)
        summary = {suite: {"problems": count, "equal": equal[suite]} for suite, count in sorted(by_suite.items())}
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in self.rows.items())
        partial = self.path.with_name(self.path.name + ".partial")
        partial.write_text(f'{{"summary": {json.dumps(summary)},\n "rows": {{\n{lines}\n}}}}\n')
        os.replace(partial, self.path)


def random_problem(config: str, seed: int) -> Row:
    try:
        return {"equal": True, **problems.check(config, seed)}
    except problems.Disagreement as error:
        print(error, file=sys.stderr)
        return {"equal": False, "repeat": problems.draw(config, seed).command}


def injected(config: str, seed: int) -> Row:
    """Faults at random times: none hangs the machine, writes where it must not, or spoils the jobs behind it."""
    try:
        found = injections.inject_many(config, seed, INJECTIONS)
    except problems.Disagreement as error:
        print(error, file=sys.stderr)
        return {
            "equal": False,
            "injections": INJECTIONS,
            "repeat": f"python -m fusemax_sim.injections {config} {seed} {INJECTIONS}",
        }
    return {"equal": True, "injections": INJECTIONS, "causes": dict(Counter(row["cause"] for row in found))}


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
    return {"equal": bool(equal and error <= BUDGET), "error": float(f"{error:.3e}"), "cycles": cycles}


def main() -> int:
    rows = Rows(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
    wanted: list[tuple[str, str, Any]] = [
        (config, f"{config} {seed}", lambda config=config, seed=seed: random_problem(config, seed))
        for config, count in COUNTS.items()
        for seed in range(FIRST_SEED, FIRST_SEED + count)
    ]
    wanted += [
        (config, f"faults {config} {seed}", lambda config=config, seed=seed: injected(config, seed))
        for config, count in SESSIONS.items()
        for seed in range(FIRST_SEED, FIRST_SEED + count)
    ]
    data = minilm.load()
    wanted += [
        (MINILM_CONFIG, f"minilm {layer} {head}", lambda layer=layer, head=head: minilm_head(layer, head))
        for layer in range(data.q.shape[0])
        for head in range(data.q.shape[1])
    ]
    digests = {config: emission_digest(problems.CONFIGS[config])[:16] for config in {config for config, _, _ in wanted}}
    for number, (config, name, measure) in enumerate(wanted, 1):
        if not rows.measured(name, digests[config]):
            suite = next((kind for kind in ("minilm", "faults") if name.startswith(kind)), config)
            row = measure()
            rows.put(name, {"suite": suite, "machine": digests[config], **row})
            print(f"{number} of {len(wanted)}: {name}: {'equal' if row['equal'] else 'NOT EQUAL'}", flush=True)
    wrong = [name for _, name, _ in wanted if not rows.rows[name]["equal"]]
    print(f"{len(wanted) - len(wrong)} passed, {len(wrong)} failed" + "".join(f"\n{name}" for name in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

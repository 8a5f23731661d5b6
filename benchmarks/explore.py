"""The page on `fusemax explore`, explore.md and explore.png in docs/measurements, from the parts' areas and a sweep made now.

python benchmarks/explore.py
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from area_parts import RESULTS, compared
from rows import Rows, markdown

from fusemax.cli.explore import BUS_BITS, COLUMNS, DEFAULT_SHAPE, QUERY_TILES, SIZES
from fusemax.evaluation.bench import Case, Results
from fusemax.evaluation.explore import AreaTable, Point, Workload, design_points, records, sweep
from fusemax.evaluation.explore.area import LUTS_PER_DSP, LUTS_PER_RAM_18K
from fusemax.evaluation.explore.picture import draw
from fusemax.planning.memory_map import Shape

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "measurements"
#: The page, with places for the tables.
TEXT = ROOT / "benchmarks" / "pages" / "explore.md"
SAVED = ROOT / "build" / "explore.json"
CELLS = {"lut": "LUT", "ff": "FF", "dsp": "DSP", "ram_18k": "RAM 18K", "ram_16x4": "RAM 16x4"}


def default_points() -> list[Point]:
    """What the command sweeps if nothing else is asked for."""
    case = Case.from_shape(DEFAULT_SHAPE)
    shape = Shape(heads=case.heads, queries=case.queries, keys=case.keys, e=case.e, f=case.f)
    return design_points(Workload((shape,)), SIZES, SIZES, QUERY_TILES, BUS_BITS)


def parts_table(areas: AreaTable) -> str:
    lines = [
        [part.replace("_", " "), f"{bits}", *(f"{getattr(parts[part], name):.0f}" for name in CELLS)]
        for part in ("lane", "north_feeder", "west_feeder", "once", "pe")
        for bits, (_, parts) in sorted(areas.machines.items())
    ]
    return markdown(("part", "bus", *CELLS.values()), lines)


def contexts_table(areas: AreaTable) -> str:
    lines = [[CELLS[name], *(f"{getattr(area, name):.0f}" for area in areas.pes.values())] for name in ("lut", "ff")]
    return markdown(("contexts", *map(str, areas.pes)), lines)


def checks_table(areas: AreaTable) -> str:
    lines = []
    for config, synthesised, estimated in compared(Rows(RESULTS).rows, areas):
        sizes = f"{config.query_tiles} query tiles, E = {config.max_e}, F = {config.max_f}, {config.contexts} contexts"
        cells = [f"{getattr(area, name):.0f}" for name in ("lut", "ff", "ram_18k") for area in (synthesised, estimated)]
        both = [area.lut_equivalents for area in (synthesised, estimated)]
        name = f"{config.rows} × {config.columns}, {config.bus_bits} bits, {sizes}"
        lines.append([name, *cells, *(f"{number:.0f}" for number in both), f"{both[1] / both[0] - 1:+.1%}"])
    header = [heading for name in ("LUT", "FF", "RAM 18K", "LUT equivalents") for heading in (name, "sum")]
    return markdown(("machine", *header, "off by"), lines)


def front_table(found: Sequence[dict[str, Any]]) -> str:
    chosen = sorted((record for record in found if record["front"]), key=lambda record: record["area"])
    return markdown(tuple(COLUMNS.values()), [[f"{record[name]}" for name in COLUMNS] for record in chosen], left=0)


def page(found: Sequence[dict[str, Any]]) -> str:
    """docs/measurements/explore.md."""
    areas = AreaTable.read()
    return TEXT.read_text(encoding="utf-8").format(
        shape=DEFAULT_SHAPE,
        points=len(found),
        front=front_table(found),
        parts=parts_table(areas),
        contexts=contexts_table(areas),
        checks=checks_table(areas),
        luts_per_dsp=round(LUTS_PER_DSP),
        luts_per_ram=round(LUTS_PER_RAM_18K),
    )


def main() -> int:
    points = default_points()
    found = records(points, sweep(points, Results(SAVED)), AreaTable.read())
    draw(found, f"{DEFAULT_SHAPE}, latency 60", DOCS / "explore.png")
    (DOCS / "explore.md").write_text(page(found), encoding="utf-8")
    print(DOCS / "explore.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""From a configuration and a board to a project directory, a netlist, and a bitstream where the tools are open.

Steps: :func:`write_project`, :meth:`Project.synthesise`, :meth:`Project.place`, :meth:`Project.pack`. Each one stands on the
files of the one before.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusemax.board.catalog import Board, FitError, board_named, check_parameters
from fusemax.integration import write as write_beside
from fusemax.spec import Config, config_named

from ..bridge.uart import divisor
from ..emit import own_yosys, write_modules
from .arty_a7_100 import ArtyA7100
from .board import BoardTop, Gateware
from .system import System
from .tang_primer_20k import TangPrimer20k
from .tools import run_tool, tool_versions
from .ulx3s_85f import Ulx3s85f

__all__ = ["GATEWARE", "Project", "write_project"]

GATEWARE: dict[str, Gateware] = {gateware.board.name: gateware for gateware in (Ulx3s85f(), ArtyA7100(), TangPrimer20k())}
TOP = "top"
STATISTICS, NEXTPNR_REPORT, REPORT = "stat.json", "nextpnr.json", "report.json"
#: Yosys script of boards whose vendor's tools are not open.
SYNTHESIS_SCRIPT = "synthesis.ys"
RESOURCES = ("luts", "registers", "multipliers", "ram_blocks")
NAMES = {"luts": "LUTs", "registers": "flip-flops", "multipliers": "multipliers", "ram_blocks": "block memories"}


@dataclass
class Project:
    """A directory with everything that is needed to make a bitstream.

    Members
    -------
    directory : Path
    board : Board
    report : dict
        What is known so far; written to ``report.json`` after every step.
    """

    directory: Path
    board: Board
    config: Config
    clock_hz: float
    commands: list[list[str]]
    report: dict[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether a bitstream can be made without the vendor's tools."""
        return GATEWARE[self.board.name].open_steps == 3

    def _run(self, step: str, command: list[str]) -> None:
        tool, *arguments = command
        start = time.monotonic()
        run_tool(tool, arguments, self.directory)
        self.report["seconds"][step] = round(time.monotonic() - start)

    def save(self) -> None:
        """Write ``report.json``: what is known so far."""
        (self.directory / REPORT).write_text(json.dumps(self.report, indent=1) + "\n", encoding="utf-8")

    def synthesise(self) -> dict[str, int]:
        """Netlist; returns what it takes of the FPGA.

        Raises
        ------
        FitError
            If that is more than there is.
        ToolError, MissingExtraError
            If Yosys fails or is not installed.
        """
        self._run("synthesis", self.commands[0])
        modules = json.loads((self.directory / STATISTICS).read_text())["modules"]
        self.report["used"] = used = area(GATEWARE[self.board.name].cells, modules)
        self.save()
        for name in RESOURCES:
            available = getattr(self.board, name)
            if used[name] > available:
                raise FitError(self.board, NAMES[name], used[name], available, "choose a smaller configuration or memory")
        return used

    def place(self) -> float:
        """Placed and routed; returns the clock that is reached, in Hz.

        Raises
        ------
        FitError
            If it is below the system's.
        ToolError, MissingExtraError
            If nextpnr fails or is not installed.
        """
        self._run("place and route", self.commands[1])
        found = json.loads((self.directory / NEXTPNR_REPORT).read_text())["fmax"]
        reached = min(clock["achieved"] for clock in found.values()) * 1e6
        self.report["fmax_mhz"] = round(reached / 1e6, 1)
        self.save()
        if reached < self.clock_hz:
            advice = "choose a lower clock (--clock-mhz) or another seed (--seed)"
            raise FitError(self.board, "MHz after routing", self.clock_hz / 1e6, round(reached / 1e6, 2), advice)
        return reached

    def pack(self) -> Path:
        """The bitstream.

        Raises
        ------
        ToolError, MissingExtraError
            If ecppack fails or is not installed.
        """
        self._run("packing", self.commands[2])
        bitstream = self.directory / f"{TOP}.bit"
        self.report["bitstream"] = {"file": bitstream.name, "bytes": bitstream.stat().st_size}
        self.save()
        return bitstream


def write_project(
    board: str | Board,
    config: str | Config,
    directory: Path,
    *,
    memory_bytes: int | None = None,
    clock_hz: float | None = None,
    baud: int | None = None,
    seed: int = 1,
) -> Project:
    """Write Verilog and what lies beside it, constraints and scripts to ``directory``; what is not given is the board's own.

    The report is kept for :meth:`Project.save`, so that one of an earlier build of the same project stays.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one.
    FitError
        If it is known without synthesis that the machine does not fit.
    """
    board, config = board_named(board), config_named(config)
    memory_bytes = board.memory_bytes if memory_bytes is None else memory_bytes
    clock_hz = board.clock_hz if clock_hz is None else clock_hz
    baud = board.baud if baud is None else baud
    gateware = GATEWARE[board.name]
    check_parameters(board, config, memory_bytes)
    system = System(config, memory_bytes=memory_bytes, divisor=divisor(clock_hz, baud))
    platform = gateware.platform()
    settings = gateware.pll.settings(platform.lookup(gateware.pins.clock).clock.frequency, clock_hz)

    manifest = write_modules(system, System.module_name, config, directory)
    write_beside(manifest, directory)
    sources = [name for name in manifest["files"] if name.endswith(".v")]
    # Parts of which there are many are synthesised once each.
    kept = [name for name in manifest["repeated_modules"] if f"{name}.v" in sources]
    keep = f"setattr -mod -set keep_hierarchy 1 {' '.join(kept)}" if kept else ""
    statistics = f"tee -q -o {STATISTICS} stat -json"
    for name in sources:
        platform.add_file(name, (directory / name).read_text(encoding="utf-8"))
    overrides = {}
    if gateware.open_steps:
        overrides = {
            "script_after_read": keep,
            "script_after_synth": statistics,
            "synth_opts": gateware.synthesis.partition(" ")[2],
            "nextpnr_opts": f"--report {NEXTPNR_REPORT} --seed {seed} --timing-allow-fail",
        }
    with own_yosys():
        plan = platform.prepare(BoardTop(gateware, settings), TOP, emit_src=False, **overrides)
    if gateware.open_steps:
        commands = json.loads(plan.files[f"build_{TOP}.json"])["commands"][: gateware.open_steps]
    else:
        script = [f"read_verilog {name}" for name in (*sources, f"{TOP}.v")]
        script += [keep, f"{gateware.synthesis} -top {TOP}", statistics]
        plan.add_file(SYNTHESIS_SCRIPT, "\n".join(script) + "\n")
        commands = [["yosys", "-q", SYNTHESIS_SCRIPT]]
    plan.extract(directory)
    report = {
        "board": board.name,
        "config": config.to_dict(),
        "memory_bytes": memory_bytes,
        "clock_mhz": clock_hz / 1e6,
        "baud": baud,
        "peak_gmac_per_s": config.rows * config.columns * clock_hz / 1e9,
        "available": {name: getattr(board, name) for name in RESOURCES},
        "verilog": hashlib.sha256("".join(manifest["files"][name] for name in sources).encode()).hexdigest(),
        "tools": tool_versions(),
        "seconds": {},
    }
    return Project(directory, board, config, clock_hz, commands, report)


def area(cells: dict[str, tuple[str, int]], modules: dict[str, dict[str, Any]]) -> dict[str, int]:
    """What a netlist takes, from Yosys' statistics of its modules. Cells that ``cells`` does not name take nothing."""
    counts = {name.lstrip("\\"): entry["num_cells_by_type"] for name, entry in modules.items()}

    def of(module: str) -> dict[str, int]:
        total: dict[str, int] = dict.fromkeys(RESOURCES, 0)
        for cell, count in counts[module].items():
            cell = cell.lstrip("\\")
            if cell in counts:
                for name, inner in of(cell).items():
                    total[name] += count * inner
            elif cell in cells:
                name, each = cells[cell]
                total[name] += count * each
        return total

    return of(TOP)
